EAPI=8

DESCRIPTION="Compresses with LZMA: liblzma, xz and friends"
HOMEPAGE="https://tukaani.org/xz/"
SRC_URI="https://github.com/tukaani-project/xz/releases/download/v${PV}/xz-${PV}.tar.xz"
S="${WORKDIR}/xz-${PV}"

LICENSE="0BSD LGPL-2.1+ GPL-2+"
SLOT="0/5"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"
IUSE="nls"

src_configure() {
	econf --disable-static --disable-doc $(use_enable nls)
}

src_install() {
	default
	find "${ED}" -name '*.la' -delete || die
}
