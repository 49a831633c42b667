#!/bin/sh
# Builds the release of this commit twice, in two directories and with two compile caches, and compares the bytes.
set -eu
cd "$(dirname "$0")/.."
commit=$(git rev-parse HEAD)
version=$(git describe --tags --always "$commit")
epoch=$(git show -s --format=%ct "$commit")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for place in first second/much/deeper; do
	mkdir -p "$dir/$place/src"
	git archive "$commit" | tar -C "$dir/$place/src" -x
done
"$dir/first/src/scripts/release.sh" "$version" "$epoch" "$dir/first/out"
GOCACHE=$dir/cache "$dir/second/much/deeper/src/scripts/release.sh" "$version" "$epoch" "$dir/second/out"
for place in first second/much/deeper; do
	"scripts/package.sh" "$version" "$epoch" "$dir/${place%%/*}/out" >>"$dir/${place%%/*}/out/SHA256SUMS"
done
diff -u "$dir/first/out/SHA256SUMS" "$dir/second/out/SHA256SUMS" || { echo "reproduce.sh: two builds of $commit differ" >&2; exit 1; }
mkdir "$dir/run"
tar -C "$dir/run" -xzf "$dir/first/out/forge-$version-linux-$(go env GOARCH).tar.gz" --strip-components=1
"$dir/run/forge" version | grep -F "forge $version "
dpkg-deb -x "$dir/first/out/"forge_*_"$(dpkg --print-architecture)".deb "$dir/installed"
"$dir/installed/usr/bin/forge" version | grep -F "forge $version "
test -s "$dir/installed/usr/share/man/man1/forge-build.1.gz"
cat "$dir/first/out/SHA256SUMS"
