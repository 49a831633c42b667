#!/usr/bin/env bash
# Obtains real clients of Docker's Engine API into a directory of the user's cache. Nothing is installed into the system.
# usage: clients.sh [-d DIR] [NAME...]    NAME: debian cli29 compose5 buildx38 act testcontainers node engine; default: all but engine
#   debian          docker CLI, docker compose 2 and buildx of Debian sid: bin/docker, bin/docker-compose-2, bin/docker-buildx-debian
#   cli29           docker CLI 29, from the Go module proxy: bin/docker-29
#   compose5        docker compose 5, from the Go module proxy: bin/docker-compose-5
#   buildx38        buildx, from the Go module proxy: bin/docker-buildx-38
#   act             act, which runs workflows of GitHub's, from the Go module proxy: bin/act
#   testcontainers  the programs of testdata/clients/testcontainers: bin/testcontainers, bin/reaper
#   node            dockerode and the devcontainers CLI, from npm: node/node_modules
#   engine          dockerd with all it needs, of Debian sid, to compare with by hand: bin/dockerd; it runs beside all else with
#                   unshare --net --mount sh -c 'ip link set lo up; mount --make-rprivate /; PATH=DIR/bin:DIR/engine-root/usr/sbin:$PATH exec
#                   dockerd -H unix://SOCKET --data-root D --exec-root E --pidfile P --cgroup-parent /compare'
#                   testdata/clients/answers.txt and api/testdata/answers.txt were made with it: see TestClientRecord and TestAnswers
# Prints DIR. What is there in the wanted version is left alone. Debian's sid goes forward: what came is in DIR/versions.
set -euo pipefail
cd "$(dirname "$0")/.."
cli29=v29.9.3+incompatible act=v0.2.89 compose5=v5.6.0 buildx38=v0.38.2 testcontainers=v0.45.0 dockerode=5.0.1 devcontainers=0.89.0
dir=${FORGE_CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/forge-clients}
[ "${1:-}" != -d ] || { dir=$2; shift 2; }
mkdir -p "$dir/bin" "$dir/have"
dir=$(cd "$dir" && pwd)
root=$PWD
export CGO_ENABLED=0 GOFLAGS="-trimpath -mod=mod"

have() { [ "$(cat "$dir/have/$1" 2>/dev/null)" = "$2" ]; }
got() { echo "$2" >"$dir/have/$1"; echo "$1 $2" >>"$dir/versions"; echo "clients.sh: $1 $2" >&2; }

# sid NAME PACKAGE...: packages of Debian sid with what they depend on, unpacked into DIR/NAME.
sid() {
	local name=$1 apt=$dir/apt
	shift
	mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$dir/$name"
	: >"$apt/status"
	local mirror
	mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null || awk '$1 == "deb" {print $2; exit}' /etc/apt/sources.list)
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$apt/sources.list"
	local o=(-o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null
		-o "Dir::State::lists=$apt/lists" -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root
		-o Acquire::Languages=none -o DPkg::Lock::Timeout=600)
	apt-get "${o[@]}" -qq update >&2
	apt-get "${o[@]}" -qq -y -d --no-install-recommends install libc6 patchelf "$@" >&2
	local deb
	for deb in "$apt"/cache/archives/*.deb; do
		dpkg-deb -x "$deb" "$dir/$name"
		dpkg-deb -W "$deb" | grep -E '^(docker|containerd|runc)' >>"$dir/versions" || true
	done
	rm -rf "$apt"
}

# adopt NAME PROGRAM AS: makes a program of DIR/NAME find its own loader and libraries, and gives it a name in DIR/bin.
adopt() {
	local loader file
	loader=$(find "$dir/$1/usr/lib" -name 'ld-linux-*.so.*' | head -1)
	file=$(find "$dir/$1/usr" -name "$2" -type f -perm -100 | head -1)
	[ -n "$file" ] || { echo "clients.sh: $2 is in none of the packages" >&2; return 1; }
	if head -c 4096 "$file" | grep -aq ld-linux; then # else it is static
		"$loader" --library-path "${loader%/*}" "$dir/$1/usr/bin/patchelf" --set-interpreter "$loader" --force-rpath --set-rpath "${loader%/*}" "$file"
	fi
	ln -sfn "../${file#"$dir/"}" "$dir/bin/$3"
}

debian() {
	have debian sid && return
	rm -rf "$dir/sid"
	sid sid docker-cli docker-compose docker-buildx
	adopt sid docker docker
	adopt sid docker-compose docker-compose-2
	adopt sid docker-buildx docker-buildx-debian
	got debian sid
}

# module NAME VERSION MODULE PACKAGE: a program of a module, built with the versions that its go.mod names.
module() {
	have "$1" "$2" && return
	local work
	work=$(mktemp -d)
	printf 'module client\n\ngo 1.26\n\nrequire %s %s\n' "$3" "$2" >"$work/go.mod"
	printf '//go:build tools\n\npackage client\n\nimport _ "%s"\n' "$4" >"$work/tools.go"
	(cd "$work" && go mod tidy >&2 && go build -ldflags "-s -w -X $3/internal.Version=$2 -X $3/version.Version=$2" -o "$dir/bin/$5" "$4")
	rm -rf "$work"
	got "$1" "$2"
}

# cli29: the module has no go.mod, and names the versions that it is built with in vendor.mod.
cli29() {
	have cli29 $cli29 && return
	local work version=${cli29#v}
	work=$(mktemp -d)
	(cd "$work" && printf 'module client\n\ngo 1.26\n' >go.mod && go mod download "github.com/docker/cli@$cli29")
	cp -r "$(go env GOMODCACHE)/github.com/docker/cli@$cli29" "$work/cli"
	chmod -R u+w "$work"
	(
		cd "$work/cli"
		cp vendor.mod go.mod
		cp vendor.sum go.sum
		go mod edit -replace github.com/moby/swarmkit/v2=github.com/moby/swarmkit/v2@v2.1.2 # of what is for swarms; not every proxy has the version that is named
		go build -ldflags "-s -w -X github.com/docker/cli/cli/version.Version=${version%+*}" -o "$dir/bin/docker-29" ./cmd/docker
	)
	rm -rf "$work"
	got cli29 $cli29
}

act() { module act $act github.com/nektos/act github.com/nektos/act act; }
compose5() { module compose5 $compose5 github.com/docker/compose/v5 github.com/docker/compose/v5/cmd docker-compose-5; }
buildx38() { module buildx38 $buildx38 github.com/docker/buildx github.com/docker/buildx/cmd/buildx docker-buildx-38; }

testcontainers() {
	local want
	want=$testcontainers-$(find testdata/clients/testcontainers -type f | sort | xargs cat | sha256sum | cut -c1-12)
	have testcontainers "$want" && return
	(cd testdata/clients/testcontainers && GOFLAGS=-trimpath go build -ldflags '-s -w' -o "$dir/bin/" . ./reaper)
	got testcontainers "$want"
}

node() {
	have node "$dockerode-$devcontainers" && return
	mkdir -p "$dir/node"
	(cd "$dir/node" && npm init -y >/dev/null && npm install --silent --no-audit --no-fund --ignore-scripts "dockerode@$dockerode" "@devcontainers/cli@$devcontainers" >&2)
	got node "$dockerode-$devcontainers"
}

engine() {
	have engine sid && return
	rm -rf "$dir/engine-root"
	sid engine-root docker.io containerd runc iptables tini
	local p
	for p in dockerd docker-proxy containerd containerd-shim-runc-v2 runc; do adopt engine-root $p $p; done
	adopt engine-root tini-static docker-init
	got engine sid
}

[ $# -gt 0 ] || set -- debian cli29 compose5 buildx38 act testcontainers node
for name in "$@"; do
	case $name in
	debian | cli29 | compose5 | buildx38 | act | testcontainers | node | engine) "$name" ;;
	*) sed -n '2,15p' "$root/scripts/clients.sh" >&2; exit 2 ;;
	esac
done
echo "$dir"
