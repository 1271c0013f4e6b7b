EAPI=8

WHEEL_BACKEND=flit
inherit wheel

DESCRIPTION="Builds wheels of simple Python packages"
HOMEPAGE="https://flit.pypa.io/"
SRC_URI="mirror://pypi/f/flit_core/flit_core-${PV}.tar.gz"
S="${WORKDIR}/flit_core-${PV}"

LICENSE="BSD MIT"
SLOT="0"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"

src_install() {
	# The installer is built with flit, so flit installs itself.
	PYTHONDONTWRITEBYTECODE=1 python3 bootstrap_install.py --install-root "${D}" \
		--installdir "${EPREFIX}/usr/lib/python3/dist-packages" "${T}"/wheel/*.whl || die
	einstalldocs
}
