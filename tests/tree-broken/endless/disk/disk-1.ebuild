EAPI=8

DESCRIPTION="Fills the disk"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_compile() {
	local n=0
	while dd if=/dev/zero of="${T}/part-$((n++))" bs=1M count=64 status=none; do
		echo "${n} parts"
	done
	die "the disk is full"
}
