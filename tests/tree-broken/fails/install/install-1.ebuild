EAPI=8

DESCRIPTION="Fails in src_install"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	dobin nothing-that-was-built
}
