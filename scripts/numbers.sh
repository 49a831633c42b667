#!/bin/sh
# Prints how the code is shaped: sizes, and places that break the house's rules.
# usage: numbers.sh [DIR or COMMIT]
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
what=${1:-$here}
if [ ! -d "$what" ]; then
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' EXIT
	git -C "$here" archive "$what" | tar -C "$dir" -x
	what=$dir
fi
cd "$here"
go run ./bench/numbers "$what"
