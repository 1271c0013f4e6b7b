# @ECLASS: meson-simple.eclass
# @BLURB: configures, builds and installs with meson and ninja
# @DESCRIPTION:
# MESON_OPTIONS, an array, holds what is given to `meson setup` beyond the folders.

case ${EAPI} in
	8) ;;
	*) die "${ECLASS}: EAPI ${EAPI} is not supported" ;;
esac

BDEPEND="dev-build/meson dev-build/ninja"

# In a cross build meson has to be told everything; what it cannot find out by running programs is answered by nobody.
meson-simple_cross_file() {
	local cpu=${CHOST%%-*} endian=little
	local family=${cpu}
	case ${cpu} in
		arm*) family=arm ;;
		i?86) family=x86 ;;
		powerpc64le) family=ppc64 ;;
		s390x|sparc64) endian=big ;;
	esac
	cat <<-END || die
		[binaries]
		c = '${CC:-${CHOST}-gcc}'
		cpp = '${CXX:-${CHOST}-g++}'
		ar = '${AR:-${CHOST}-ar}'
		strip = '${STRIP:-${CHOST}-strip}'
		pkg-config = '${PKG_CONFIG:-${CHOST}-pkg-config}'
		[host_machine]
		system = 'linux'
		cpu_family = '${family}'
		cpu = '${cpu}'
		endian = '${endian}'
	END
}

meson-simple_src_configure() {
	local -x PYTHONDONTWRITEBYTECODE=1
	if [[ -n ${CBUILD} && ${CBUILD} != "${CHOST}" ]]; then
		meson-simple_cross_file > "${T}/cross.ini"
		MESON_OPTIONS+=( --cross-file "${T}/cross.ini" )
		# These are for programs that run while it is built.
		local -x CC=${BUILD_CC:-gcc} CXX=${BUILD_CXX:-g++} AR= STRIP= PKG_CONFIG=
		unset AR STRIP PKG_CONFIG
	fi
	meson setup \
		--prefix="${EPREFIX}/usr" \
		--libdir="${EPREFIX}/usr/$(get_libdir)" \
		--sysconfdir="${EPREFIX}/etc" \
		--localstatedir="${EPREFIX}/var/lib" \
		--buildtype=plain \
		--wrap-mode=nodownload \
		"${MESON_OPTIONS[@]}" . "${WORKDIR}/build" || die "meson setup failed"
}

meson-simple_src_compile() {
	local jobs=
	[[ ${MAKEOPTS} =~ -j\ *([0-9]+) ]] && jobs=-j${BASH_REMATCH[1]}
	ninja -v ${jobs} -C "${WORKDIR}/build" || die "ninja failed"
}

meson-simple_src_install() {
	DESTDIR="${D}" PYTHONDONTWRITEBYTECODE=1 meson install --no-rebuild -C "${WORKDIR}/build" || die "meson install failed"
	einstalldocs
}

EXPORT_FUNCTIONS src_configure src_compile src_install
