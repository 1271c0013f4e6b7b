# @ECLASS: wheel.eclass
# @BLURB: builds a Python source distribution into a wheel and installs the wheel
# @DESCRIPTION:
# For Python packages, which go where the root's own python3 looks for packages of the system.
# WHEEL_BACKEND, set before inherit, names the build backend: setuptools (default) or flit.

case ${EAPI} in
	8) ;;
	*) die "${ECLASS}: EAPI ${EAPI} is not supported" ;;
esac

case ${WHEEL_BACKEND:=setuptools} in
	setuptools)
		WHEEL_BUILD="setuptools.build_meta"
		[[ ${PN} == setuptools ]] || BDEPEND="dev-python/setuptools"
		;;
	flit)
		WHEEL_BUILD="flit_core.buildapi"
		[[ ${PN} == flit-core ]] || BDEPEND="dev-python/flit-core"
		;;
	*) die "${ECLASS}: unknown WHEEL_BACKEND ${WHEEL_BACKEND}" ;;
esac
[[ ${PN} == flit-core || ${PN} == installer ]] || BDEPEND+=" dev-python/installer"

wheel_src_compile() {
	# What an extension is compiled with: in a cross build the other machine's, if there is a Python of that below the sysroot.
	local data=( "${ESYSROOT:+${ESYSROOT}/usr/lib/python3.13}"/_sysconfigdata_*.py )
	if [[ -e ${data} ]]; then
		mkdir "${T}/sysconfig" || die
		sed "s:'/usr/include:'${ESYSROOT}/usr/include:" "${data}" > "${T}/sysconfig/${data##*/}" || die
		export _PYTHON_SYSCONFIGDATA_NAME=$(basename "${data}" .py) _PYTHON_HOST_PLATFORM=linux-${CHOST%%-*}
		export PYTHONPATH=${T}/sysconfig
	fi
	mkdir "${T}/wheel" || die
	PYTHONDONTWRITEBYTECODE=1 python3 -c "import ${WHEEL_BUILD} as b; print(b.build_wheel('${T}/wheel'))" || die "no wheel"
}

wheel_src_install() {
	# No byte code: a .pyc holds the time of its source, and the root's python3 can do without.
	# Debian's python3 would install under /usr/local unless told that this is a package of the system.
	DEB_PYTHON_INSTALL_LAYOUT=deb python3 -m installer \
		--destdir="${D}" --prefix="${EPREFIX}/usr" --no-compile-bytecode "${T}"/wheel/*.whl || die
	einstalldocs
}

EXPORT_FUNCTIONS src_compile src_install
