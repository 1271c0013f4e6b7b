# @ECLASS: meson-simple.eclass
# @BLURB: configures, builds and installs with meson and ninja
# @DESCRIPTION:
# MESON_OPTIONS, an array, holds what is given to `meson setup` beyond the folders.

case ${EAPI} in
	8) ;;
	*) die "${ECLASS}: EAPI ${EAPI} is not supported" ;;
esac

BDEPEND="dev-build/meson dev-build/ninja"

meson-simple_src_configure() {
	local -x PYTHONDONTWRITEBYTECODE=1
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
