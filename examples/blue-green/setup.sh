#!/bin/sh -e
# setup.sh REPOSITORY: makes, once, what the pipeline needs: a registry, a network, the proxy, and a repository to push to.
here=$(cd "$(dirname "$0")" && pwd)
repository=$1

forge images -q busybox | grep -q . || "$here/../../scripts/base.sh" forge busybox

# The registry is forge itself, in an image of nothing else.
files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
cp "$here/registry/Dockerfile" "$files"
cp -L "$(command -v forge)" "$files/forge"
libraries=$(ldd "$files/forge" 2>/dev/null | grep -o '/[^ )]*' || true) # none of a forge that was released
[ ! "$libraries" ] || cp -L --parents $libraries "$files"
forge build -q -t registry "$files"
forge run -d --name registry --restart unless-stopped -p 5000:5000 registry

forge network create site
forge build -q -t proxy "$here/proxy"
forge run -d --name proxy --restart unless-stopped --network site -p 8080:80 proxy

git init -q --bare "$repository"
cat >"$repository/hooks/post-receive" <<HOOK
#!/bin/sh
# Every commit that main is moved to goes through the pipeline, one after the other.
while read -r old new ref; do
	[ "\$ref" != refs/heads/main ] || flock pipeline.lock "$here/pipeline.sh" "\$PWD" "\$new"
done
HOOK
chmod +x "$repository/hooks/post-receive"
