EAPI=8

DESCRIPTION="Hangs for ever and says nothing"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_compile() {
	sleep infinity
}
