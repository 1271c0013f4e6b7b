EAPI=8

DESCRIPTION="Tells what kind of data a file holds: libmagic and file"
HOMEPAGE="https://www.darwinsys.com/file/"
SRC_URI="https://astron.com/pub/file/file-${PV}.tar.gz"

LICENSE="BSD-2"
SLOT="0/1"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"
IUSE="+bzip2 +lzma"

RDEPEND="
	bzip2? ( app-arch/bzip2:= )
	lzma? ( app-arch/xz-utils:= )
"
DEPEND="${RDEPEND}"

src_configure() {
	econf \
		--disable-static --disable-libseccomp \
		--disable-zlib --disable-zstdlib --disable-lzlib --disable-lrziplib \
		$(use_enable bzip2 bzlib) \
		$(use_enable lzma xzlib)
}

src_install() {
	default
	find "${ED}" -name '*.la' -delete || die
}
