EAPI=8

DESCRIPTION="Has a licence that is not accepted"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="bindery-EULA"
SLOT="0"
KEYWORDS="amd64"
