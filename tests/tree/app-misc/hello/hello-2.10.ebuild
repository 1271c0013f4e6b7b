EAPI=8

DESCRIPTION="Greets, as every GNU program should"
HOMEPAGE="https://www.gnu.org/software/hello/"
SRC_URI="https://ftp.gnu.org/gnu/hello/hello-${PV}.tar.gz"

LICENSE="GPL-3+"
SLOT="0"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"
IUSE="nls"

src_configure() {
	econf $(use_enable nls)
}

pkg_postinst() {
	elog "Try: hello --greeting='how do you do'"
}
