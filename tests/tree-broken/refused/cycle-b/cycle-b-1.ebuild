EAPI=8

DESCRIPTION="Needs itself, by way of cycle-a"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

DEPEND="refused/cycle-a"
RDEPEND="${DEPEND}"
