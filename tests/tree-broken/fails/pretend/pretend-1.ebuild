EAPI=8

DESCRIPTION="Fails in pkg_pretend, before anything is unpacked"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

pkg_pretend() {
	die "this root will not do"
}
