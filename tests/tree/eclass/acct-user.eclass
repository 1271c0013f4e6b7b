# @ECLASS: acct-user.eclass
# @BLURB: adds a user of the system's when it is merged
# @DESCRIPTION:
# The package is named after the user. Set by the ebuild: ACCT_USER_ID, the same on every machine; ACCT_USER_GROUPS, an
# array of groups, the first of which is the user's own; ACCT_USER_HOME, unless it has none, and ACCT_USER_HOME_PERMS.
# acct-user_add_deps after inherit adds the groups to RDEPEND. With useradd where the root has it, else by lines in
# /etc/passwd and /etc/group.

case ${EAPI} in
	8) ;;
	*) die "${ECLASS}: EAPI ${EAPI} is not supported" ;;
esac

DESCRIPTION="The user ${PN}"
HOMEPAGE="https://wiki.gentoo.org/wiki/Project:Quality_Assurance/UID_GID_Assignment"
LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"
S="${WORKDIR}"

: "${ACCT_USER_HOME:=/dev/null}"
: "${ACCT_USER_HOME_PERMS:=0755}"

acct-user_add_deps() {
	RDEPEND+=" ${ACCT_USER_GROUPS[*]/#/acct-group/}"
}

acct-user_pkg_pretend() {
	[[ ${ACCT_USER_ID} =~ ^[0-9]+$ ]] || die "ACCT_USER_ID is not a number"
	[[ ${#ACCT_USER_GROUPS[@]} -gt 0 ]] || die "ACCT_USER_GROUPS is empty"
}

acct-user_src_install() {
	# Whose it is can only be said once the user is there.
	[[ ${ACCT_USER_HOME} == /dev/null ]] || keepdir "${ACCT_USER_HOME}"
	insinto /usr/lib/sysusers.d
	newins - "acct-user-${PN}.conf" <<< "u ${PN} ${ACCT_USER_ID}:${ACCT_USER_GROUPS[0]} - ${ACCT_USER_HOME} -"
}

acct-user_pkg_preinst() {
	local etc=${EROOT}/etc group
	local there=$(grep -s "^${PN}:" "${etc}/passwd")
	if [[ -n ${there} ]]; then
		[[ ${there} == "${PN}:"*":${ACCT_USER_ID}:"* ]] || die "the user ${PN} has another id: ${there}"
	elif type -P useradd > /dev/null; then
		local groups=${ACCT_USER_GROUPS[*]:1}
		useradd ${ROOT:+--prefix "${ROOT}"} --system --no-create-home --uid "${ACCT_USER_ID}" --gid "${ACCT_USER_GROUPS[0]}" \
			${groups:+--groups "${groups// /,}"} --home-dir "${ACCT_USER_HOME}" --shell /sbin/nologin "${PN}" \
			|| die "useradd failed"
	else
		grep -q "^[^:]*:[^:]*:${ACCT_USER_ID}:" "${etc}/passwd" && die "the id ${ACCT_USER_ID} is another user's"
		local gid=$(sed -n "s/^${ACCT_USER_GROUPS[0]}:[^:]*:\([0-9]*\):.*/\1/p" "${etc}/group")
		[[ -n ${gid} ]] || die "there is no group ${ACCT_USER_GROUPS[0]}"
		echo "${PN}:x:${ACCT_USER_ID}:${gid}::${ACCT_USER_HOME}:/sbin/nologin" >> "${etc}/passwd" || die
		for group in "${ACCT_USER_GROUPS[@]:1}"; do
			sed -i -e "/^${group}:/{s/\$/,${PN}/;s/:,/:/}" "${etc}/group" || die
		done
	fi
	if [[ -d ${ED}/${ACCT_USER_HOME#/} ]]; then
		fowners "${PN}:${ACCT_USER_GROUPS[0]}" "${ACCT_USER_HOME}"
		fperms "${ACCT_USER_HOME_PERMS}" "${ACCT_USER_HOME}"
	fi
}

EXPORT_FUNCTIONS pkg_pretend src_install pkg_preinst
