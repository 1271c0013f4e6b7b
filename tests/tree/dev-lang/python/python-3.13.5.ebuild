EAPI=8

DESCRIPTION="Python, for machines whose image has none"
HOMEPAGE="https://www.python.org/"
SRC_URI="https://www.python.org/ftp/python/${PV}/Python-${PV}.tar.xz"
S="${WORKDIR}/Python-${PV}"

LICENSE="PSF-2"
SLOT="3.13"
# Only where it is cross built: every other image has a python3, and this would lie over it.
KEYWORDS="sparc x86"

src_configure() {
	# What it does not find out where it does not run programs.
	export ac_cv_file__dev_ptmx=yes ac_cv_file__dev_ptc=no ac_cv_buggy_getaddrinfo=no
	econf --with-build-python="$(type -P python3)" \
		--without-ensurepip --without-static-libpython --disable-test-modules \
		--with-pkg-config=no --libdir="${EPREFIX}/usr/lib"
}

src_install() {
	emake DESTDIR="${D}" install
	# No byte code: it holds the times of its sources.
	find "${ED}" -depth -name __pycache__ -exec rm -r {} + || die
	# Packages of this tree go where Debian's python3 looks for them, on every machine.
	echo "${EPREFIX}/usr/lib/python3/dist-packages" > "${ED}/usr/lib/python3.13/site-packages/tree.pth" || die
}
