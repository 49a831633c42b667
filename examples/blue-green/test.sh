#!/bin/sh -e
# test.sh: takes the whole way, with requests coming in all the time, of which none may fail. It is run as root in a network and
# a /run of its own, with forge in the PATH:
#   unshare -n -m sh -e test.sh
mount --make-rprivate /
mount -t tmpfs run /run
ip link set lo up
ip link add up0 type veth peer name up1
ip addr add 10.7.7.1/24 dev up0
ip link set up0 up
ip link set up1 up
ip route add default via 10.7.7.2

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
export FORGE_ROOT="$work/store" HOME="$work" GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=me GIT_AUTHOR_EMAIL=me@example GIT_COMMITTER_NAME=me GIT_COMMITTER_EMAIL=me@example
clean() {
	touch "$work/stop"
	wait
	forge rm -f $(forge ps -aq) >/dev/null || true
	rm -rf "$work"
}
trap clean EXIT

page() { curl -sSf --noproxy '*' -m 10 http://127.0.0.1:8080/; }
is() {
	[ "$1" = "$2" ] || { echo "got $1, want $2" >&2; exit 1; }
}
push() { # VERSION: commits and pushes a page that says so
	echo "site, version $1" >index.html
	git commit -qam "version $1"
	git push -q origin HEAD:main
}

"$here/setup.sh" "$work/site.git"
cp -r "$here/site" "$work/site"
cd "$work/site"
git init -q
git remote add origin "$work/site.git"
git add .
git commit -qm 'the site'
git push -q origin HEAD:main
is "$(page)" 'site, version one'
first=$(forge ps -q --filter name=site-)

# From here on somebody asks all the time.
ask() {
	while [ ! -e "$work/stop" ]; do
		page || echo failed
	done >"$work/asked.$1" 2>&1
}
for n in 1 2 3 4; do
	ask $n &
done

# A request that began before the switch is answered after it, by the version that it was sent to.
{ printf 'GET / HTTP/1.0\r\n'; sleep 5; printf '\r\n'; sleep 2; } | busybox nc 127.0.0.1 8080 >"$work/slow" &
push two
is "$(page)" 'site, version two'
is "$(forge inspect -f '{{.State.Status}}' "$first")" exited

# A version that fails its tests, or is not healthy, leaves the other one.
push_fails() {
	git commit -qam "$1"
	git push origin HEAD:main 2>&1 | grep "$2"
	is "$(page)" 'site, version two'
}
echo nonsense >index.html
push_fails 'a page that the tests refuse' 'remote: test '
! forge ps -a --format '{{.Names}}' | grep "site-$(git rev-parse --short HEAD)"
echo 'site, version three' >index.html
sed -i 's/"8000"/"8001"/' Dockerfile
push_fails 'a server that nobody reaches' 'is running unhealthy; site-.* is served'
git checkout -q HEAD~2 Dockerfile

# Back, and forward again.
"$here/rollback.sh"
is "$(page)" 'site, version one'
"$here/rollback.sh"
is "$(page)" 'site, version two'

until [ "$(cat "$work"/asked.* | wc -l)" -ge 400 ]; do sleep 0.1; done
touch "$work/stop"
wait
grep -q 'site, version one' "$work/slow"
sort "$work"/asked.* | uniq -c
! sort -u "$work"/asked.* | grep -v '^site, version \(one\|two\)$'
is "$(forge inspect --type image -f '{{len .RepoTags}}' "site:$(git rev-parse --short HEAD~2)")" 2
