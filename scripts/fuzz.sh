#!/bin/sh
# Runs every fuzz target of the project for a while each, beginning with the inputs that are kept in testdata/fuzz.
# usage: fuzz.sh TIME [NAME]
set -eu
time=${1:-10s} only=${2:-}
cd "$(dirname "$0")/.."
out=$(mktemp)
trap 'rm -f "$out"' EXIT

# target PACKAGE NAME: one target. Go before 1.27 sometimes calls it a failure, without an input that fails, that the time is over
# (go.dev/issue/75804): then the target is run again.
target() {
	for try in 1 2 3; do
		# Without a limit a target can spend all its time on making its first find shorter.
		if go test -run '^$' -fuzz "^$2\$" -fuzztime "$time" -fuzzminimizetime 20x "$1" >"$out" 2>&1; then
			cat "$out"
			return
		fi
		cat "$out"
		if grep -q 'Failing input' "$out" || ! grep -q 'context deadline exceeded' "$out"; then return 1; fi
	done
	return 1
}

grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do
	for name in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
		[ -z "$only" ] || [ "$only" = "$name" ] || continue
		echo "== $file $name"
		target "./$(dirname "$file")" "$name"
	done
done
