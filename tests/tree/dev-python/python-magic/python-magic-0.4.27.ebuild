EAPI=8

inherit wheel

DESCRIPTION="Asks libmagic what kind of data a file holds"
HOMEPAGE="https://github.com/ahupp/python-magic"
SRC_URI="mirror://pypi/p/python-magic/python-magic-${PV}.tar.gz"

LICENSE="MIT"
SLOT="0"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"

# Opened at run time: nothing in the package's files shows this dependency.
RDEPEND="sys-apps/file:="
