EAPI=8

DESCRIPTION="Adds a user and a group when installed"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

pkg_postinst() {
	[[ -z ${ROOT} ]] || return
	getent group bindery-odd > /dev/null || groupadd --system bindery-odd || die
	getent passwd bindery-odd > /dev/null || useradd --system --gid bindery-odd --home /nonexistent bindery-odd || die
}
