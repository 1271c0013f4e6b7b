EAPI=8

DESCRIPTION="Writes to its log as fast as it can"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_compile() {
	yes "and another line of output, none the wiser than the one before"
}
