#!/bin/sh
# Builds the image of forge with forge: NAME, and NAME-debug with a shell if there is a static busybox.
# usage: image.sh FORGE NAME [EPOCH]
set -eu
forge=$1 name=$2
export SOURCE_DATE_EPOCH=${3:-0}
here=$(dirname "$0")
certs=${CERTS:-/etc/ssl/certs/ca-certificates.crt}
if [ ! -s "$certs" ]; then
	echo "image.sh: no certificates of authorities at $certs: apt-get install ca-certificates, or CERTS=FILE" >&2
	exit 1
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/context" "$dir/links/kaniko/.docker"
cp "$certs" "$dir/context/ca-certificates.crt"
cp "$forge" "$dir/context/forge"
ln -s /usr/local/bin/forge "$dir/links/kaniko/executor"
build() { "$forge" build -q --cache none -f "$here/../Dockerfile" --build-context "links=$dir/links" "$@" "$dir/context"; }
build -t "$name"
echo "built $name"
busybox=$(command -v busybox || true)
if [ -z "$busybox" ] || ldd "$busybox" >/dev/null 2>&1; then
	echo "no static busybox here: no $name-debug" >&2
	exit 0
fi
cp "$busybox" "$dir/context/busybox"
build --target debug -t "$name-debug"
echo "built $name-debug"
