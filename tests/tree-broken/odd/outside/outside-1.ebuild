EAPI=8

DESCRIPTION="Writes to the root instead of its image"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	echo "was here" > /usr/share/odd-outside || die
}
