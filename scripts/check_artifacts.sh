#!/usr/bin/env bash
# Checks that Lambda's artifacts have no test-only code: check_artifacts.sh ARTIFACT...
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0
# Environment variables that only debug builds read, each with the file that contains its name.
while read -r name source; do
    grep --quiet "\"$name\"" "$source" || {
        echo "check_artifacts: $source no longer names $name: name its replacement here" >&2
        failed=1
    }
    for artifact in "$@"; do
        status=0
        grep --quiet --text "$name" "$artifact" || status=$?
        case $status in
        1) ;; # Absent.
        0)
            echo "check_artifacts: $artifact reads $name, which is for tests only" >&2
            failed=1
            ;;
        *) failed=1 ;; # grep has printed its error.
        esac
    done
done <<'VARIABLES'
CRASH_POINT functions/votes/src/crash.rs
CLOCK_SKEW_MS shared/runtime/src/clock.rs
VARIABLES
exit $failed
