# Builds one package in a fresh root.
#
#   sh -c PROGRAM build PACKAGES BUILT =CPV [=DEPENDENCY...]
#
# Puts the dependencies there from PACKAGES, in the order given, then builds =CPV into BUILT. Exits with 80 where a
# dependency could not be put there.
set -eu
packages=$1 built=$2 package=$3
shift 3

if [ $# -gt 0 ]; then
	printf '>>> Preparing the root of %s\n' "${package#=}"
	# Their signatures were verified outside, and the plan has decided that they may be used.
	ACCEPT_KEYWORDS='**' ACCEPT_LICENSE='*' FEATURES=binpkg-ignore-signature PKGDIR=$packages \
		emerge --usepkgonly --nodeps --oneshot --quiet --color=n "$@" || exit 80
fi

PKGDIR=$built exec emerge --buildpkgonly --nodeps --oneshot --quiet-build=n --color=n "$package"
