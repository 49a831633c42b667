#!/bin/sh -e
# release.sh VERSION: starts a version beside the one that is served, waits until it is healthy, moves the route to it, and stops
# the other. A version that does not become healthy is stopped, and the other goes on serving.
version=$1
served=$(forge exec proxy route)

forge start "$version" >/dev/null
while :; do
	state=$(forge inspect -f '{{.State.Status}} {{.State.Health.Status}}' "$version")
	case $state in
	'running healthy') break ;;
	'running starting') sleep 0.1 ;;
	*)
		echo "release: $version is $state; ${served:-nothing} is served" >&2
		forge logs -n 20 "$version" >&2
		forge stop "$version" >/dev/null
		exit 1
		;;
	esac
done

forge exec proxy route "$version"
[ "$served" = "$version" ] || [ -z "$served" ] || forge stop "$served" >/dev/null
echo "$version is served"
