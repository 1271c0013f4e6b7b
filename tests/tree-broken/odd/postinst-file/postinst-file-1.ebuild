EAPI=8

DESCRIPTION="Makes a file of no package when installed"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	newbin - odd-postinst-file <<< "echo installed"
}

pkg_postinst() {
	echo "made at ${EROOT}/" > "${EROOT}/var/lib/odd-postinst-file" || die
}
