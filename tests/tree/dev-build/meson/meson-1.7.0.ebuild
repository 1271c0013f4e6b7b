EAPI=8

inherit wheel

DESCRIPTION="Build system that writes the instructions for ninja"
HOMEPAGE="https://mesonbuild.com/"
SRC_URI="mirror://pypi/m/meson/meson-${PV}.tar.gz"

LICENSE="Apache-2.0"
SLOT="0"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"

RDEPEND="dev-build/ninja"
