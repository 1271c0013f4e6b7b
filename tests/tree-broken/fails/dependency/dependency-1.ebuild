EAPI=8

DESCRIPTION="Depends on a package that fails"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

DEPEND="fails/compile"
