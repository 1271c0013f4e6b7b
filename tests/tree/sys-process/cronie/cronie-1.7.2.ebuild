EAPI=8

DESCRIPTION="Runs commands at the times that users wrote down: crond and crontab"
HOMEPAGE="https://github.com/cronie-crond/cronie"
SRC_URI="https://github.com/cronie-crond/cronie/releases/download/${P}/${P}.tar.gz"

LICENSE="ISC BSD BSD-2 GPL-2+"
SLOT="0"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"

RDEPEND="acct-group/crontab acct-user/cron"
# Files belong to them.
BDEPEND="${RDEPEND}"

src_configure() {
	SPOOL_DIR="${EPREFIX}/var/spool/cron/crontabs" econf \
		--disable-anacron --without-pam --without-selinux --with-inotify \
		--with-daemon_username=cron --with-daemon_groupname=cron
}

src_install() {
	default
	# Whoever runs crontab may write a file here, and nobody may list or change another's.
	diropts --mode=1730 --owner=root --group=crontab
	keepdir /var/spool/cron/crontabs
	fowners root:crontab /usr/bin/crontab
	fperms 2755 /usr/bin/crontab
	diropts --mode=0750 --owner=root --group=cron
	keepdir /etc/cron.d
	insinto /etc
	newins - cron.deny < /dev/null
	fowners cron:cron /etc/cron.deny
	fperms 0640 /etc/cron.deny
}

pkg_postinst() {
	# A list of its own, which a merge must not replace: it is the machine's.
	local allowed=${EROOT}/etc/cron.allow
	if [[ ! -e ${allowed} ]]; then
		echo root > "${allowed}" || die
		chown root:crontab "${allowed}" || die
		chmod 0640 "${allowed}" || die
	fi
}
