EAPI=8

DESCRIPTION="Needs a package with a USE flag it does not have"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

DEPEND="app-misc/hello[nls]"
