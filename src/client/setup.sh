#!/bin/sh
# Subscribes this machine to the binary host `@NAME@`. Run it as root, as often as you like:
#
#     ./setup            this machine
#     ./setup /mnt/root  the system whose root folder that is
#
# 1. lets Portage's own trust helper (getuto, on Gentoo) make its keyring first, where there is such a helper: it does
#    its work only if there is none yet, and without it the distribution's own packages would not be trusted;
# 2. puts the binary host's key into the keyring that Portage verifies packages with, and trusts it for that;
# 3. writes etc/portage/binrepos.conf/@NAME@.conf.
#
# It changes nothing else; make.conf is yours (see README).
set -eu
LC_ALL=C
export LC_ALL

fingerprint=@FINGERPRINT@
here=$(cd "$(dirname "$0")" && pwd)
root=${1:-}
root=${root%/}
home=$root/etc/portage/gnupg
repos=$root/etc/portage/binrepos.conf

fail() {
	echo "setup: $1" >&2
	exit 1
}

[ "$(id -u)" = 0 ] || fail "only root can change \`$root/etc/portage\`; run it as root"
command -v gpg >/dev/null || fail 'there is no `gpg`, which Portage verifies packages with; install GnuPG'
[ -d "$root/etc/portage" ] || fail "there is no \`$root/etc/portage\`; is it a system with Portage?"
if [ -e "$repos" ] && [ ! -d "$repos" ]; then
	fail "\`$repos\` is a file; make it a folder (mv it to binrepos.conf.old, mkdir binrepos.conf, mv it there as old.conf)"
fi

# --no-autostart: no agent is needed, and none stays behind.
keyring() {
	gpg --homedir "$home" --batch --no-tty --quiet --no-permission-warning --no-autostart "$@"
}

# What gpg says matters only where it fails; it also says that there is no agent.
change() {
	said=$(keyring "$@" 2>&1) || fail "gpg $*: $said"
}

# Looked at in a keyring of its own: nothing is touched before the key is the right one.
empty=$(mktemp -d)
found=$(gpg --homedir "$empty" --batch --no-tty --quiet --no-autostart --with-colons --import-options show-only \
	--import "$here/key.asc" 2>/dev/null | awk -F: '$1 == "pub" { pub = 1 } $1 == "fpr" && pub { print $10; pub = 0 }')
rm -rf "$empty"
[ "$found" = "$fingerprint" ] || fail "\`$here/key.asc\` holds \`$found\`, not \`$fingerprint\`; get this folder again"

if [ ! -d "$home" ]; then
	if [ -z "$root" ] && command -v getuto >/dev/null; then
		getuto
	elif [ -x "$root/usr/bin/getuto" ]; then
		ROOT=$root "$root/usr/bin/getuto"
	fi
fi
[ -d "$home" ] || mkdir -m 755 "$home"
change --import "$here/key.asc"
echo "$fingerprint:6:" | change --import-ownertrust
# Portage never lets gpg work out by itself what is trusted.
change --check-trustdb
# Portage runs gpg as nobody, who must be able to read these; secret keys lie in a folder of their own.
chmod 755 "$home"
for file in pubring.kbx pubring.gpg trustdb.gpg; do
	[ ! -e "$home/$file" ] || chmod 644 "$home/$file"
done
trust=$(keyring --no-auto-check-trustdb --with-colons --list-keys "$fingerprint" 2>/dev/null |
	awk -F: '$1 == "pub" { print $2 }')
[ "$trust" = u ] || fail "the key is in \`$home\` but not trusted (\`$trust\`): has it expired, or was it revoked?"

[ -d "$repos" ] || mkdir -m 755 "$repos"
new=$repos/.@NAME@.new
cp "$here/binrepos.conf" "$new"
chmod 644 "$new"
mv "$new" "$repos/@NAME@.conf"
echo "subscribed to @URI@; packages must be signed by $fingerprint"
