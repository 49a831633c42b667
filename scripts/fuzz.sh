#!/bin/sh
# Runs every fuzz target of the project for a while each, beginning with the inputs that are kept in testdata/fuzz.
# usage: fuzz.sh TIME [NAME]
set -eu
time=${1:-10s} only=${2:-}
cd "$(dirname "$0")/.."
grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do
	for name in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
		[ -z "$only" ] || [ "$only" = "$name" ] || continue
		echo "== $file $name"
		# Without a limit a target can spend all its time on making its first find shorter.
		go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 20x "./$(dirname "$file")"
	done
done
