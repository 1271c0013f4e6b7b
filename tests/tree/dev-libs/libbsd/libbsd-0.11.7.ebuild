EAPI=8

DESCRIPTION="Functions common on BSD and missing elsewhere"
HOMEPAGE="https://libbsd.freedesktop.org/"
SRC_URI="https://libbsd.freedesktop.org/releases/libbsd-${PV}.tar.xz"

LICENSE="BSD BSD-2 BSD-4 ISC MIT BEER-WARE public-domain"
SLOT="0"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"

RDEPEND="app-crypt/libmd:="
DEPEND="${RDEPEND}"

src_configure() {
	econf --disable-static
}

src_install() {
	default
	find "${ED}" -name '*.la' -delete || die
}
