EAPI=8

DESCRIPTION="Its archive is nowhere to be had"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"
SRC_URI="https://invalid.example/${P}.tar.gz"
