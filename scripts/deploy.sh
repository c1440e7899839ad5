#!/usr/bin/env bash
# Builds and deploys the environment ENV of samconfig.toml, and publishes the pages. Safe to repeat, also after a first
# deployment that failed: unchanged resources are left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

ENV=${ENV:-development}
deploy=(sam deploy --config-env "$ENV" --no-fail-on-empty-changeset)
python scripts/deployment.py clear --environment "$ENV"
sam build --config-env "$ENV"
"${deploy[@]}"

# Parameters that need an existing stack, set once: the protection against deletion, and the distribution's own name for
# the user pool.
settings=$(python scripts/deployment.py settings --environment "$ENV")
if [[ -n $settings ]]; then
    # shellcheck disable=SC2086 # parameters, not one word
    "${deploy[@]}" --no-confirm-changeset --parameter-overrides $settings
fi
scripts/publish.sh
python scripts/deployment.py outputs --environment "$ENV"
