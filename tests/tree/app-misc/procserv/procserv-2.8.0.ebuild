EAPI=8

DESCRIPTION="Keeps an interactive program running and lends its console out over the network"
HOMEPAGE="https://github.com/ralphlange/procServ"
SRC_URI="https://github.com/ralphlange/procServ/releases/download/v${PV}/procServ-${PV}.tar.gz"
S="${WORKDIR}/procServ-${PV}"

LICENSE="GPL-3+"
SLOT="0"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"

src_configure() {
	econf --disable-doc
}
