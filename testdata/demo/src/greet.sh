#!/bin/sh
# Prints the greeting and the words that other stages have made.
set -eu
echo "$(cat /app/share/greeting), $*!"
tr '\n' ' ' < /app/share/words
echo
cat /app/share/about
