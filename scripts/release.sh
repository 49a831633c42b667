#!/bin/sh
# Builds static binaries for each architecture, packs them with the licences of what is in them, and writes checksums. The same
# commit gives the same bytes on any machine with the same version of Go.
# usage: release.sh VERSION SECONDS DIR   (SECONDS since 1970: the time that all files get)
set -eu
version=$1 epoch=$2
mkdir -p "$3"
out=$(cd "$3" && pwd)
cd "$(dirname "$0")/.."
export CGO_ENABLED=0 GOFLAGS='-trimpath -buildvcs=false' GOOS=linux LC_ALL=C
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
for arch in amd64 arm64; do
	name=forge-$version-linux-$arch
	dir=$stage/$name
	mkdir -p "$dir"
	GOARCH=$arch go build -ldflags "-s -w -X main.version=$version" -o "$dir/forge" ./cmd/forge
	cp LICENSE README.md CHANGELOG.md SECURITY.md "$dir"
	GOARCH=$arch go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}' ./cmd/forge | sort -u | while read -r module src; do
		mkdir -p "$dir/licenses/$module"
		find "$src" -maxdepth 1 -type f \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' \) -exec cp {} "$dir/licenses/$module" \;
		[ -n "$(ls "$dir/licenses/$module")" ] || { echo "release.sh: $module has no licence" >&2; exit 1; }
	done
	mkdir -p "$dir/licenses/go"
	cp "$(go env GOROOT)/LICENSE" "$dir/licenses/go"
	chmod -R u=rwX,go=rX "$dir"
	tar -C "$stage" --format=ustar --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner -cf "$stage/$name.tar" "$name" # no pipe: it would hide that tar has failed
	gzip -9nc "$stage/$name.tar" >"$out/$name.tar.gz"
done
# What the release says to people is the topmost section of the changelog.
awk '/^## /{n++} n==1' CHANGELOG.md >"$out/NOTES.md"
(cd "$out" && sha256sum "forge-$version-linux-amd64.tar.gz" "forge-$version-linux-arm64.tar.gz" NOTES.md >SHA256SUMS)
