EAPI=8

DESCRIPTION="Its archive has to be brought by hand"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"
SRC_URI="${P}.tar.gz"
RESTRICT="fetch"

pkg_nofetch() {
	einfo "Put ${P}.tar.gz into the distfiles yourself."
}
