#!/usr/bin/env bash
# Runs the tests of the packages in these folders, as `cargo test --workspace` has built them: for a part of the workspace
# cargo would choose other features, and compile half the dependencies again.
set -euo pipefail
cd -P "$(dirname "$0")/.."

built=$(cargo test --workspace --locked --no-run --message-format=json --quiet)
for folder in "$@"; do
    tests=$(jq -r --arg manifest "$PWD/$folder/Cargo.toml" \
        'select(.reason == "compiler-artifact" and .manifest_path == $manifest and .profile.test).executable // empty' \
        <<<"$built")
    [[ -n $tests ]] || {
        echo "test_built: no tests in $folder" >&2
        exit 1
    }
    for program in $tests; do
        echo "$folder: $(basename "$program")"
        (cd "$folder" && "$program" --quiet)
    done
done
