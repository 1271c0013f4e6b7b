# @ECLASS: acct-group.eclass
# @BLURB: adds a group of the system's when it is merged
# @DESCRIPTION:
# The package is named after the group. ACCT_GROUP_ID, set by the ebuild, is its id, the same on every machine.
# With groupadd where the root has it, else by a line in /etc/group.

case ${EAPI} in
	8) ;;
	*) die "${ECLASS}: EAPI ${EAPI} is not supported" ;;
esac

DESCRIPTION="The group ${PN}"
HOMEPAGE="https://wiki.gentoo.org/wiki/Project:Quality_Assurance/UID_GID_Assignment"
LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"
S="${WORKDIR}"

acct-group_pkg_pretend() {
	[[ ${ACCT_GROUP_ID} =~ ^[0-9]+$ ]] || die "ACCT_GROUP_ID is not a number"
}

acct-group_src_install() {
	insinto /usr/lib/sysusers.d
	newins - "acct-group-${PN}.conf" <<< "g ${PN} ${ACCT_GROUP_ID}"
}

acct-group_pkg_preinst() {
	local file=${EROOT}/etc/group
	local there=$(grep -s "^${PN}:" "${file}")
	if [[ -n ${there} ]]; then
		[[ ${there} == "${PN}:"*":${ACCT_GROUP_ID}:"* ]] || die "the group ${PN} has another id: ${there}"
		return
	fi
	if type -P groupadd > /dev/null; then
		groupadd ${ROOT:+--prefix "${ROOT}"} --system --gid "${ACCT_GROUP_ID}" "${PN}" || die "groupadd failed"
	else
		grep -q "^[^:]*:[^:]*:${ACCT_GROUP_ID}:" "${file}" && die "the id ${ACCT_GROUP_ID} is another group's"
		echo "${PN}:x:${ACCT_GROUP_ID}:" >> "${file}" || die
	fi
}

EXPORT_FUNCTIONS pkg_pretend src_install pkg_preinst
