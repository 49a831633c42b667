#!/usr/bin/env bash
# Real servers of the Remote Execution API, out of Debian's packages and beside the system: nothing is installed into it. They listen on
# 127.0.0.1 only. Needs Debian, root for apt-get, and 150 MB.
#
#   remote.sh get    download and unpack them: buildbox-casd and justbuild
#   remote.sh start  start them, and print the variables that name their addresses
#   remote.sh stop   end them
#   remote.sh test   start them, build the test corpus with each, and end them
#
# FORGE_REMOTE_DIR is where they live; default /var/cache/forge-remote. FORGE_REMOTE_PORT is the first of four ports; default 18980.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
dir=${FORGE_REMOTE_DIR:-/var/cache/forge-remote}
port=${FORGE_REMOTE_PORT:-18980}
mirror=${DEBIAN_MIRROR:-$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -1)}
mirror=${mirror:-$(awk '$1 == "deb" { print $2; exit }' /etc/apt/sources.list)}
casd=grpc://127.0.0.1:$port
chained=grpc://127.0.0.1:$((port + 1))
just=grpc://127.0.0.1:$((port + 2))/remote-execution
nobody=grpc://127.0.0.1:$((port + 3))

# unpack SUITE PACKAGE: a package with all that it needs, in a directory of its own, with the suite's own loader and libc.
unpack() {
	local suite=$1 root=$dir/$1 lists=$dir/apt-$1
	[ -e "$root/whole" ] && return
	mkdir -p "$lists/lists/partial" "$lists/cache/archives/partial" "$root"
	: >"$lists/status"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$lists/sources.list"
	local apt=(apt-get -qq -o Dir::Etc::sourcelist="$lists/sources.list" -o Dir::Etc::sourceparts=/dev/null
		-o Dir::Etc::preferencesparts=/dev/null -o Dir::State::lists="$lists/lists" -o Dir::State::status="$lists/status"
		-o Dir::Cache="$lists/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false)
	"${apt[@]}" update
	"${apt[@]}" -y --download-only --no-install-recommends install libc6 "$2"
	local deb
	for deb in "$lists"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$root"; done
	rm -rf "$lists"
	touch "$root/whole"
}

# program SUITE NAME: a script that starts a program with its own suite's libraries.
program() {
	local lib loader
	lib=$(echo "$dir/$1"/usr/lib/*-linux-gnu)
	loader=$(echo "$lib"/ld-linux-*.so.*)
	printf '#!/bin/sh\nexec %s --library-path %s %s "$@"\n' "$loader" "$lib" "$dir/$1/usr/bin/$2" >"$dir/bin/$2"
	chmod 755 "$dir/bin/$2"
}

get() {
	mkdir -p "$dir/bin"
	unpack sid buildbox
	unpack trixie justbuild
	program sid buildbox-casd
	program sid buildbox-run-hosttools
	program trixie justbuild
}

# serve NAME PORT COMMAND…: starts a server and waits until it listens.
serve() {
	local name=$1 at=$2
	shift 2
	setsid "$@" >"$dir/$name.log" 2>&1 </dev/null &
	echo $! >"$dir/$name.pid"
	for _ in $(seq 200); do
		if (exec 3<>"/dev/tcp/127.0.0.1/$at") 2>/dev/null; then return; fi
		sleep 0.1
	done
	echo "remote.sh: $name does not listen:" >&2
	tail "$dir/$name.log" >&2
	return 1
}

start() {
	stop
	rm -rf "$dir/data"
	mkdir -p "$dir/data/just"
	chmod 755 "$dir" "$dir/data"
	install -d -o 65534 -g 65534 "$dir/data/nobody" "$dir/data/tmp"
	local run=$dir/bin/buildbox-run-hosttools
	cd /
	serve casd "$port" "$dir/bin/buildbox-casd" --bind="127.0.0.1:$port" --quota-high=4G --buildbox-run="$run" --jobs=4 "$dir/data/casd"
	serve chained $((port + 1)) "$dir/bin/buildbox-casd" --bind="127.0.0.1:$((port + 1))" --cas-remote="http://127.0.0.1:$port" \
		--ac-remote="http://127.0.0.1:$port" --exec-remote="http://127.0.0.1:$port" "$dir/data/chained"
	serve just $((port + 2)) "$dir/bin/justbuild" execute --compatible --local-build-root "$dir/data/just" -i 127.0.0.1 -p $((port + 2))
	# It looks into each directory of its PATH, and takes it badly if it may not.
	serve nobody $((port + 3)) env -i PATH=/usr/bin:/bin HOME=/ TMPDIR="$dir/data/tmp" \
		setpriv --reuid 65534 --regid 65534 --clear-groups "$dir/bin/buildbox-casd" --bind="127.0.0.1:$((port + 3))" \
		--quota-high=4G --buildbox-run="$run" --jobs=4 "$dir/data/nobody"
	cd "$top"
	printf '%s=%s\n' CASD "$casd" CHAINED "$chained" JUST "$just" NOBODY "$nobody"
}

stop() {
	local f
	for f in "$dir"/*.pid; do
		[ -e "$f" ] || continue
		kill "$(cat "$f")" 2>/dev/null || true
		for _ in $(seq 100); do
			kill -0 "$(cat "$f")" 2>/dev/null || break
			sleep 0.1
		done
		rm -f "$f"
	done
}

# tests builds the corpus with each server: what comes of it is what the cases say, as without one.
tests() {
	trap stop EXIT
	start
	local address policy
	for address in "$casd" "$just" "$chained" "$nobody"; do
		echo "== $address"
		FORGE_TEST_REMOTE=$address go test -count=1 ./internal/reapi -run 'TestContent$|TestExecute$'
		[ "$address" != "$chained" ] || continue # its workers are those of the first
		policy=only
		[ "$address" != "$nobody" ] || policy=auto # a user with one ID cannot do all that root can: then this machine does it
		FORGE_TEST_REMOTE=$address FORGE_TEST_REMOTE_POLICY=$policy go test -count=1 -timeout 30m ./cmd/forge -run 'TestCorpus|TestRemoteLayers'
	done
}

case ${1:-} in
get | start | stop) "$1" ;;
test) get && cd "$top" && tests ;;
*)
	sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
