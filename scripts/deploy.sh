#!/usr/bin/env bash
# Builds and deploys the environment ENV of samconfig.toml, and publishes the pages. Safe to repeat: what has not changed
# is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

ENV=${ENV:-development}
deploy=(sam deploy --config-env "$ENV" --no-fail-on-empty-changeset)
sam build --config-env "$ENV"
"${deploy[@]}"

# The distribution's own name is known only now; the user pool has to be told it, once.
url=$(python scripts/deployment.py sign-in-url --environment "$ENV")
if [[ -n $url ]]; then
    "${deploy[@]}" --no-confirm-changeset --parameter-overrides "SignInUrl=$url"
fi
scripts/publish.sh
python scripts/deployment.py outputs --environment "$ENV"
