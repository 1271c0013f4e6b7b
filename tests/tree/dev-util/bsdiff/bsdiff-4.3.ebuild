EAPI=8

DESCRIPTION="Makes and applies patches between binary files"
HOMEPAGE="https://www.daemonology.net/bsdiff/"
SRC_URI="https://www.daemonology.net/bsdiff/bsdiff-${PV}.tar.gz"

LICENSE="BSD-2"
SLOT="0"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"

RDEPEND="app-arch/bzip2:="
DEPEND="${RDEPEND}"

src_compile() {
	# Upstream's Makefile is for BSD make.
	local p
	for p in bsdiff bspatch; do
		"${CC:-gcc}" ${CFLAGS} ${LDFLAGS} -o ${p} ${p}.c -lbz2 || die "cannot build ${p}"
	done
}

src_install() {
	dobin bsdiff bspatch
	doman bsdiff.1 bspatch.1
}
