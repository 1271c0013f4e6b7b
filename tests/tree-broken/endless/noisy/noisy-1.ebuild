EAPI=8

DESCRIPTION="Runs for ever and says so"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_compile() {
	while sleep 0.1; do
		echo "still compiling"
	done
}
