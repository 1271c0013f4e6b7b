EAPI=8

DESCRIPTION="Is another one each time it is built"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	head -c 16 /dev/urandom | od -An -tx1 > random || die
	insinto /usr/share/odd-random
	doins random
}
