EAPI=8

DESCRIPTION="Installs a pipe and a socket"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	dodir /usr/share/odd-kinds
	mkfifo "${ED}"/usr/share/odd-kinds/pipe || die
	python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "${T}/socket" || die
	mv "${T}/socket" "${ED}"/usr/share/odd-kinds/ || die
}
