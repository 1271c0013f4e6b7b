EAPI=8

DESCRIPTION="Small build system with a focus on speed"
HOMEPAGE="https://ninja-build.org/"
SRC_URI="https://github.com/ninja-build/ninja/archive/v${PV}.tar.gz -> ninja-${PV}.tar.gz"

LICENSE="Apache-2.0"
SLOT="0"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"

src_configure() {
	:
}

src_compile() {
	PYTHONDONTWRITEBYTECODE=1 CXX="${CXX:-g++}" python3 configure.py --bootstrap --verbose || die
}

src_install() {
	dobin ninja
	dodoc README.md
}
