EAPI=8

DESCRIPTION="Installs programs with the setuid and setgid bits"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	newbin - odd-setuid <<< "echo setuid"
	newbin - odd-setgid <<< "echo setgid"
	# Before the bits: a change of owner takes them away.
	fowners root:games /usr/bin/odd-setgid
	fperms 4755 /usr/bin/odd-setuid
	fperms 2755 /usr/bin/odd-setgid
}
