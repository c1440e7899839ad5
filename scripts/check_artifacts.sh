#!/usr/bin/env bash
# What only tests may do is not in what Lambda gets: check_artifacts.sh ARTIFACT...
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0
# A variable that only debug builds read, and the file that writes its name.
while read -r name source; do
    grep --quiet "\"$name\"" "$source" || {
        echo "check_artifacts: $source no longer names $name: name here what has taken its place" >&2
        failed=1
    }
    for artifact in "$@"; do
        status=0
        grep --quiet --text "$name" "$artifact" || status=$?
        case $status in
        1) ;; # Not there.
        0)
            echo "check_artifacts: $artifact reads $name, which is for tests only" >&2
            failed=1
            ;;
        *) failed=1 ;; # grep has said why.
        esac
    done
done <<'VARIABLES'
CRASH_POINT functions/votes/src/crash.rs
CLOCK_SKEW_MS shared/runtime/src/clock.rs
VARIABLES
exit $failed
