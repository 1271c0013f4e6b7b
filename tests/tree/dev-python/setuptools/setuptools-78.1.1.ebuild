EAPI=8

inherit wheel

DESCRIPTION="Builds Python packages, and wheels of them"
HOMEPAGE="https://setuptools.pypa.io/"
SRC_URI="mirror://pypi/s/setuptools/setuptools-${PV}.tar.gz"

LICENSE="MIT"
SLOT="0"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"
