EAPI=8

DESCRIPTION="Cryptographic functions, in assembly language where the processor is known"
HOMEPAGE="https://www.lysator.liu.se/~nisse/nettle/"
SRC_URI="https://ftp.gnu.org/gnu/nettle/nettle-${PV}.tar.gz"

LICENSE="|| ( LGPL-3+ GPL-2+ )"
SLOT="0/8-6"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"

# Its assembly language is written in m4.
BDEPEND="sys-devel/m4"

src_configure() {
	# What makes its tables (eccdata) is built and run; in a cross build for the machine that builds. A small GMP of its own.
	[[ -z ${BUILD_CC} ]] || export CC_FOR_BUILD=${BUILD_CC}
	# One variant of each function, for what the compiler's flags allow: what is chosen at run time is for others to try.
	econf --enable-mini-gmp --disable-fat --disable-static --disable-documentation --disable-openssl --libdir="${EPREFIX}/usr/$(get_libdir)"
}
