# Builds one package in a fresh root.
#
#   sh -c PROGRAM build PACKAGES BUILT =CPV [=DEPENDENCY...] [build-side:=TOOL...]
#
# Puts the dependencies there from PACKAGES, in the order given, then builds =CPV into BUILT. Exits with 80 where a
# dependency could not be put there. In a cross build, what is put there is below ROOT; tools come from a folder of their
# own, into the root itself.
set -eu
packages=$1 built=$2 package=$3
shift 3

put() { # put FOLDER =CPV...
	from=$1
	shift
	# Their signatures were verified outside, and the plan has decided that they may be used.
	ACCEPT_KEYWORDS='**' ACCEPT_LICENSE='*' FEATURES=binpkg-ignore-signature PKGDIR=$from \
		emerge --usepkgonly --nodeps --oneshot --quiet --color=n "$@" || exit 80
}

if [ $# -gt 0 ]; then
	printf '>>> Preparing the root of %s\n' "${package#=}"
	tools=
	for dependency do
		shift
		case $dependency in
		build-side:*) tools="$tools ${dependency#build-side:}" ;;
		*) set -- "$@" "$dependency" ;;
		esac
	done
	if [ -n "$tools" ]; then
		# shellcheck disable=SC2086 # names of packages have no blanks
		(unset ROOT SYSROOT PORTAGE_CONFIGROOT && put /var/cache/bindery/tools $tools) || exit 80
	fi
	[ $# = 0 ] || put "$packages" "$@"
fi

PKGDIR=$built exec emerge --buildpkgonly --nodeps --oneshot --quiet-build=n --color=n "$package"
