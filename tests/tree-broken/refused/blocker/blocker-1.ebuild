EAPI=8

DESCRIPTION="Cannot live beside what it needs"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

RDEPEND="app-misc/hello !!app-misc/hello"
