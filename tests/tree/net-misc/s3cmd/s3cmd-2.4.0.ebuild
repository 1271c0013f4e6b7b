EAPI=8

inherit wheel

DESCRIPTION="Command line client for S3 object storage"
HOMEPAGE="https://s3tools.org/s3cmd"
SRC_URI="mirror://pypi/s/s3cmd/s3cmd-${PV}.tar.gz"

LICENSE="GPL-2+"
SLOT="0"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"

RDEPEND="
	dev-python/python-dateutil
	dev-python/python-magic
"

src_compile() {
	# Its setup.py would put the manual pages where no one looks for them.
	local -x S3CMD_PACKAGING=1
	wheel_src_compile
}

src_install() {
	wheel_src_install
	doman s3cmd.1
}
