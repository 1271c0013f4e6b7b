EAPI=8

DESCRIPTION="Its archive is another than the Manifest says"
HOMEPAGE="https://example.org/"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64"
SRC_URI="https://ftp.gnu.org/gnu/hello/hello-2.10.tar.gz"
