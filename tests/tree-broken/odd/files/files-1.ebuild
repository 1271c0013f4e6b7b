EAPI=8

DESCRIPTION="Installs files with strange names and of strange kinds"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

src_install() {
	dodir /usr/share/odd
	cd "${ED}"/usr/share/odd || die
	echo data > "a name with spaces" || die
	echo data > $'a\tname with\ta tab' || die
	echo data > 'ünïcödé' || die
	echo data > -leading-dash || die
	echo data > "$(printf 'long%.0s' {1..50})" || die
	echo data > one-of-two && ln one-of-two two-of-two || die
	ln -s ../../../../../../etc/passwd climbs || die
	ln -s nowhere dangles || die
	mkdir empty && chmod 1777 empty || die
	keepdir /var/lib/odd
}
