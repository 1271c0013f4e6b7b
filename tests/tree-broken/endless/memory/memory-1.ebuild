EAPI=8

DESCRIPTION="Eats memory"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_compile() {
	python3 -c '
held = []
while True:
    held.append(bytearray(b"x") * (64 << 20))
    print(len(held) * 64, "MiB", flush=True)
' || die "no more memory"
}
