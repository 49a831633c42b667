#!/bin/sh
# The main job on real input: build a multi-stage image, run it, build it again from the cache.
# usage: demo.sh FORGE
set -eu
forge=$1
here=$(dirname "$0")
base=forge-demo/base:latest

"$forge" images -q "$base" | grep -q . || "$here/base.sh" "$forge" "$base"

now() { date +%s%N; }
ms() { echo "$((($2 - $1) / 1000000)).$(printf '%03d' "$((($2 - $1) / 1000 % 1000))") ms"; }

a=$(now)
"$forge" build --no-cache -t forge-demo/app:latest "$here/../testdata/demo"
b=$(now)
"$forge" run --rm forge-demo/app:latest you
c=$(now)
"$forge" build -q -t forge-demo/app:latest "$here/../testdata/demo"
d=$(now)
echo "first build:        $(ms "$a" "$b")"
echo "run:                $(ms "$b" "$c")"
echo "build from cache:   $(ms "$c" "$d")"
