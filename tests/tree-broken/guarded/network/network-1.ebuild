EAPI=8

DESCRIPTION="Builds where there is no network, and only there"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_compile() {
	# TEST-NET-1 answers nobody, but a machine with a network has a way there.
	python3 - <<-'EOF' || die "there is a network"
		import errno, socket, sys
		for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
		    try:
		        socket.socket(family, socket.SOCK_DGRAM).connect((address, 9))
		    except OSError as error:
		        print(address, error.strerror)
		        if error.errno not in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPERM, errno.EACCES):
		            sys.exit(1)
		    else:
		        sys.exit(f"there is a way to {address}")
		links = [line.split(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:]]
		print("interfaces:", links)
		sys.exit(any(link.startswith(("eth", "en", "wl", "veth", "tap", "br")) for link in links))
	EOF
}
