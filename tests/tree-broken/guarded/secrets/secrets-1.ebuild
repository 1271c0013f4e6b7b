EAPI=8

DESCRIPTION="Builds where nothing secret is in the environment, and only there"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_compile() {
	local names
	names=$(tr '\0' '\n' < /proc/self/environ | sed 's/=.*//' | grep -iE 'secret|token|password|passphrase|GNUPGHOME|SSH_|AWS_|BINPKG_GPG_SIGNING_(KEY|GPG_HOME)')
	[[ -z ${names} ]] || die "the environment holds: ${names}"
}
