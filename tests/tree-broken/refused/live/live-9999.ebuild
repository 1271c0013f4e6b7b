EAPI=8

DESCRIPTION="Is another one every day"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"
PROPERTIES="live"
