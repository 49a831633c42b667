#!/bin/sh
# Builds the tools that check the code, at fixed versions from the module proxy, into bin/tools.
# usage: tools.sh
set -eu
cd "$(dirname "$0")/.."
bin=$PWD/bin/tools
mkdir -p "$bin"
while read -r package version; do
	name=${package##*/}
	[ "$(cat "$bin/$name.version" 2>/dev/null)" = "$version $(go env GOVERSION)" ] && continue
	echo "building $name $version"
	GOBIN=$bin GOFLAGS=-trimpath CGO_ENABLED=0 go install "$package@$version"
	echo "$version $(go env GOVERSION)" >"$bin/$name.version"
done <<'LIST'
github.com/golangci/golangci-lint/v2/cmd/golangci-lint v2.15.0
mvdan.cc/gofumpt v0.9.2
golang.org/x/vuln/cmd/govulncheck v1.9.0
golang.org/x/tools/cmd/deadcode v0.52.0
LIST
