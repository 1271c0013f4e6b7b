EAPI=8

inherit meson-simple

DESCRIPTION="Reads and writes RDF: libserd and serdi"
HOMEPAGE="https://drobilla.net/software/serd.html"
SRC_URI="https://download.drobilla.net/serd-${PV}.tar.xz"

LICENSE="ISC"
SLOT="0"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"

MESON_OPTIONS=( -Ddocs=disabled -Dtests=disabled )
