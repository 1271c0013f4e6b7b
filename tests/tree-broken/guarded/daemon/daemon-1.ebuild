EAPI=8

DESCRIPTION="Leaves a process behind"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_compile() {
	setsid bash -c 'exec -a bindery-left-behind sleep infinity' < /dev/null > /dev/null 2>&1 &
	disown
	echo "started a daemon"
}
