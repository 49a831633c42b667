#!/bin/sh
# Builds the image of forge with forge: NAME, and NAME-debug with a shell if there is a static busybox.
# usage: image.sh FORGE NAME [EPOCH]
set -eu
forge=$1 name=$2
export SOURCE_DATE_EPOCH=${3:-0}
here=$(dirname "$0")

# static reports whether a program of 64 bits names no dynamic linker: none of its program headers is PT_INTERP (3).
static() {
	[ "$(od -An -tx1 -N4 "$1" | tr -d ' \n')" = 7f454c46 ] || return 1
	at=$(od -An -tu8 -j32 -N8 "$1") n=$(od -An -tu2 -j56 -N2 "$1")
	while [ "$n" -gt 0 ]; do
		[ "$(od -An -tu4 -j$((at)) -N4 "$1")" -ne 3 ] || return 1
		n=$((n - 1)) at=$((at + 56))
	done
}

if ! static "$forge"; then
	echo "image.sh: $forge is not a static program, and an image FROM scratch has nothing that it could be linked with: make build (CGO_ENABLED=0)" >&2
	exit 1
fi
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
if [ -z "$busybox" ] || ! static "$busybox"; then
	echo "no static busybox here: no $name-debug" >&2
	exit 0
fi
cp "$busybox" "$dir/context/busybox"
build --target debug -t "$name-debug"
echo "built $name-debug"
