EAPI=8

inherit wheel

DESCRIPTION="Marks text as safe for HTML, with an extension in C"
HOMEPAGE="https://github.com/pallets/markupsafe"
SRC_URI="mirror://pypi/m/markupsafe/markupsafe-${PV}.tar.gz"

LICENSE="BSD"
SLOT="0"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"

# Whose image has no Python of that machine's own, and cannot have.
RDEPEND="sparc? ( dev-lang/python ) x86? ( dev-lang/python )"
DEPEND="${RDEPEND}"

src_compile() {
	wheel_src_compile
	# It does without where it cannot be compiled, and says so in passing.
	compgen -G "${T}/wheel/*-linux_*.whl" > /dev/null || die "the extension was not compiled: see above for why"
}
