EAPI=8

WHEEL_BACKEND=flit
inherit wheel

DESCRIPTION="Installs Python wheels"
HOMEPAGE="https://installer.pypa.io/"
SRC_URI="mirror://pypi/i/installer/installer-${PV}.tar.gz"

LICENSE="MIT"
SLOT="0"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"

src_install() {
	local -x PYTHONPATH=${S}/src
	wheel_src_install
}
