EAPI=8

DESCRIPTION="Message digest functions as on BSD"
HOMEPAGE="https://www.hadrons.org/software/libmd/"
SRC_URI="https://archive.hadrons.org/software/libmd/libmd-${PV}.tar.xz"

LICENSE="BSD BSD-2 ISC BEER-WARE public-domain"
SLOT="0"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"

src_configure() {
	econf --disable-static
}

src_install() {
	default
	find "${ED}" -name '*.la' -delete || die
}
