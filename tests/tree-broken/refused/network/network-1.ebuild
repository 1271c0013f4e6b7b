EAPI=8

DESCRIPTION="Asks for a network while it builds"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"
RESTRICT="network-sandbox"
