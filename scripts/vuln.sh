#!/bin/sh
# Asks Go's vulnerability database whether forge calls anything with a known vulnerability. The database comes as a module from the
# module proxy, so that a machine needs no other network.
set -eu
cd "$(dirname "$0")/.."
db=$PWD/bin/vulndb
module=$(cd / && go mod download -json golang.org/x/vulndb@latest)
field() { echo "$module" | sed -n "s/^.*\"$1\": \"\(.*\)\",*\$/\1/p"; }
if [ "$(cat "$db/version" 2>/dev/null)" != "$(field Version)" ]; then
	rm -rf "$db"
	go run ./scripts/vulndb "$(field Dir)/data/osv" "$db"
	field Version >"$db/version"
fi
echo "vulnerability database $(field Version)"
status=0
out=$(bin/tools/govulncheck -db "file://$db" ./...) || status=$?
echo "$out" | grep -v '^ *#'
[ $status = 3 ] || exit $status # 3: it has found some
# A module's fault is for us to mend. The standard library's is mended by a newer Go, which a release is built with.
if echo "$out" | grep -q '^ *Module: '; then exit 1; fi
echo "vuln.sh: known vulnerabilities are in $(go env GOVERSION) only: build releases with the newest Go" >&2
