#!/bin/sh -e
# rollback.sh: releases the version that was served before. Done again, it goes forward again.
before=$(forge exec proxy cat /route/before)
exec "$(dirname "$0")/release.sh" "$before"
