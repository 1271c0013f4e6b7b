EAPI=8

DESCRIPTION="Wants to talk to somebody"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"
PROPERTIES="interactive"

src_compile() {
	local answer
	read -r -p "Go on? " answer || die "nobody answers"
	[[ ${answer} == yes ]] || die "then not"
}
