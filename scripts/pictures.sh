#!/usr/bin/env bash
# Draws the pictures of docs/guide/tutorial.md: what a terminal of 104 columns shows, by tmux. Needs root, tmux, and the busybox base of base.sh.
# usage: pictures.sh FORGE
set -euo pipefail
forge=$(realpath "$1")
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
export FORGE_ROOT=$dir/store
tmux=(tmux -L "pictures-$$" -f /dev/null)
trap '"${tmux[@]}" kill-server 2>/dev/null || true; "$forge" rm -f web >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
go build -o "$dir/picture" ./scripts/picture
scripts/base.sh "$forge" base >/dev/null
ln -s "$forge" "$dir/forge"
mkdir "$dir/hello"
cat >"$dir/hello/Dockerfile" <<'DOCKERFILE'
FROM base AS build
RUN for i in 1 2 3 4; do echo "fetching package $i of 4"; sleep 0.7; done
COPY hello.txt .
RUN sleep 1.2; tr a-z A-Z <hello.txt >/hello
FROM base AS tests
RUN echo "running 12 tests"; sleep 3; echo ok >/passed
FROM scratch
COPY --from=build /hello /hello
COPY --from=tests /passed /passed
CMD ["/hello"]
DOCKERFILE
echo "hello from forge" >"$dir/hello/hello.txt"
sed 's|tr a-z A-Z <hello.txt >/hello|tr a-z A-Z <helo.txt >/hello|' "$dir/hello/Dockerfile" >"$dir/hello/Broken"
"${tmux[@]}" new-session -d -x 104 -y 28 -e "FORGE_ROOT=$FORGE_ROOT" -e FORGE_BUILD_SHELL=never -e TERM=xterm-256color -c "$dir/hello" "env -u NO_COLOR PATH=$dir:$PATH PS1='\$ ' bash --norc"
# shot NAME: draws what is on the terminal.
shot() { "${tmux[@]}" capture-pane -e -p | "$dir/picture" 104 >"docs/guide/pictures/$1.svg"; }
type() { "${tmux[@]}" send-keys "$1" Enter; }
# until TEXT: waits until it is on the terminal.
until_shown() { for _ in $(seq 300); do "${tmux[@]}" capture-pane -p | grep -q -- "$1" && return; sleep 0.1; done; echo "pictures.sh: no $1 was shown" >&2; "${tmux[@]}" capture-pane -p >&2; exit 1; }
mkdir -p docs/guide/pictures
sleep 0.5
type 'forge build -t hello .'
until_shown 'package 3'
shot build
until_shown 'built hello'
shot built
type 'clear; forge build -t hello -f Broken .'
until_shown 'builds logs'
shot failure
type 'clear; forge run -d --name web base sleep 1000; sleep 2; forge ps'
until_shown 'Up '
shot ps
