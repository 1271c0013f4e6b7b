EAPI=8

DESCRIPTION="Uses a library that it does not depend on"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

# app-arch/bzip2 is missing in DEPEND on purpose: where it happens to be installed this builds, in a clean room it cannot.

src_compile() {
	cat > use.c <<-EOF || die
		#include <bzlib.h>
		int main(void) { return !BZ2_bzlibVersion(); }
	EOF
	"${CC:-gcc}" ${CFLAGS} ${LDFLAGS} -o use use.c -lbz2 || die "bzip2 is not there"
}

src_install() {
	newbin use undeclared-dependency
}
