EAPI=8

DESCRIPTION="Starts processes until it cannot"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_compile() {
	local n=0
	while sleep infinity & do
		(( ++n % 100 )) || echo "${n} processes"
	done
	die "no more processes"
}
