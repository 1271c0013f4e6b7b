EAPI=8

DESCRIPTION="Fails in src_configure"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_configure() {
	echo "checking for a reason to go on... no"
	die "configure found no reason to go on"
}
