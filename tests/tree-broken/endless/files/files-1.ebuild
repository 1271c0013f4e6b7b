EAPI=8

DESCRIPTION="Makes empty files for ever"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_compile() {
	mkdir many || die
	local n=0
	while : > "many/file-$((n++))"; do :; done
	die "no more files can be made"
}
