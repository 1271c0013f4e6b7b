EAPI=8

DESCRIPTION="Builds, and fails when installed"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	newbin - fails-postinst <<< "echo installed"
}

pkg_postinst() {
	die "cannot be set up here"
}
