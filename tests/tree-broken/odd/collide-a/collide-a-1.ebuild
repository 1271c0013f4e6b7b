EAPI=8

DESCRIPTION="Owns a file that collide-b owns too"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	newbin - odd-collide <<< "echo a"
}
