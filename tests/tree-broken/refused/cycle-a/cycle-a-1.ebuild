EAPI=8

DESCRIPTION="Needs itself, by way of cycle-b"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

DEPEND="refused/cycle-b"
RDEPEND="${DEPEND}"
