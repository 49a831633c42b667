#!/bin/sh
# Installs what the demo ("demo"), the tests ("test") or the race detector ("race") need from the distribution, if it is not there.
set -eu
case ${1:-test} in
demo) want='busybox-static' ;;
race) want='gcc libc6-dev busybox-static e2fsprogs git openssl' ;;
test) want='busybox-static curl iproute2 nftables e2fsprogs skopeo umoci podman erofs-utils docker-registry uidmap passt apache2-utils git openssl openssh-client bzip2 xz-utils zstd attr libcap2-bin mmdebstrap strace' ;;
*) echo "usage: deps.sh demo|test|race" >&2; exit 2 ;;
esac
missing=
for p in $want; do
	dpkg-query -W -f='${db:Status-Abbrev}' "$p" 2>/dev/null | grep -q '^ii' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "deps.sh: please install:$missing" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # words are meant to split
apt-get install -y -qq --no-install-recommends $missing >/dev/null
