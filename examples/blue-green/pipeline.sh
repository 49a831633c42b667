#!/bin/sh -e
# pipeline.sh REPOSITORY COMMIT: builds a commit, tests it, pushes it and releases it. Whatever fails leaves what is served.
here=$(cd "$(dirname "$0")" && pwd)
commit=$(git -C "$1" rev-parse --short "$2")
image=localhost:5000/site:$commit
name=site-$commit

echo "build $commit"
git -C "$1" archive "$2" | forge build -q -t "site:$commit" -

echo "test $commit"
forge run --rm "site:$commit" sh -e test.sh

echo "push $image"
forge tag "site:$commit" "$image"
forge push -q "$image"

echo "release $name"
if ! forge inspect --type container "$name" >/dev/null 2>&1; then
	forge create --name "$name" --network site --init --restart unless-stopped \
		--health-cmd 'wget -q -O /dev/null http://127.0.0.1:8000/' --health-interval 1s --health-timeout 5s --health-retries 3 \
		"$image" >/dev/null
fi
"$here/release.sh" "$name"
