EAPI=8

DESCRIPTION="Fails in src_compile with an error of the compiler"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_compile() {
	cat > greet.c <<-EOF || die
		int main(void) { return undeclared_greeting(; }
	EOF
	"${CC:-gcc}" ${CFLAGS} -o greet greet.c || die "greet.c does not compile"
}
