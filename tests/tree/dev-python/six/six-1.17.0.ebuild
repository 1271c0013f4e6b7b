EAPI=8

inherit wheel

DESCRIPTION="What Python 2 and 3 call differently"
HOMEPAGE="https://github.com/benjaminp/six"
SRC_URI="mirror://pypi/s/six/six-${PV}.tar.gz"

LICENSE="MIT"
SLOT="0"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"
