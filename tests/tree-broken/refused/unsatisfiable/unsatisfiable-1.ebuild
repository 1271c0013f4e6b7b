EAPI=8

DESCRIPTION="Needs a package that no tree has"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

DEPEND="no-such/package"
