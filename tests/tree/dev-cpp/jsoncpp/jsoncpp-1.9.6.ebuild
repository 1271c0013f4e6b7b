EAPI=8

inherit meson-simple

DESCRIPTION="Reads and writes JSON in C++"
HOMEPAGE="https://github.com/open-source-parsers/jsoncpp"
SRC_URI="https://github.com/open-source-parsers/jsoncpp/archive/${PV}.tar.gz -> jsoncpp-${PV}.tar.gz"

LICENSE="|| ( public-domain MIT )"
SLOT="0/26"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"

MESON_OPTIONS=( -Dtests=false )
