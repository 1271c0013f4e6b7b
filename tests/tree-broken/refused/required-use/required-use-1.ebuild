EAPI=8

DESCRIPTION="Wants one of two USE flags and has neither"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"
IUSE="gui text"
REQUIRED_USE="^^ ( gui text )"
