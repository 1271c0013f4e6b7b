EAPI=8

DESCRIPTION="Macro processor"
HOMEPAGE="https://www.gnu.org/software/m4/"
SRC_URI="https://ftp.gnu.org/gnu/m4/m4-${PV}.tar.xz"

LICENSE="GPL-3+"
SLOT="0"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"

src_configure() {
	econf --disable-nls --disable-rpath --without-included-regex
}

src_compile() {
	# Without its manual, which needs more tools.
	emake -C lib
	emake -C src
}

src_install() {
	emake -C src DESTDIR="${D}" install
	einstalldocs
}
