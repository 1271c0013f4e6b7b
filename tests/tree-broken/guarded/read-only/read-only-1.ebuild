EAPI=8

DESCRIPTION="Builds where tree, archives and configuration cannot be written, and only there"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"

# Phases of Portage from src_install on run as root.
src_install() {
	local folder files=$(readlink -f "${FILESDIR}")
	for folder in "${files%/*}" /etc/portage /var/cache/distfiles; do
		[[ -d ${folder} ]] || continue
		if ( : > "${folder}/written-by-${PN}" ) 2>/dev/null; then
			rm -f "${folder}/written-by-${PN}"
			die "${folder} can be written"
		fi
		echo "${folder} cannot be written"
	done
}
