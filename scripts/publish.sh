#!/usr/bin/env bash
# Publishes the pages to the deployed environment ENV of samconfig.toml, with the program `local`, built before.
set -euo pipefail
cd "$(dirname "$0")/.."

stack=$(python scripts/deployment.py stack --environment "${ENV:-development}")
# shellcheck disable=SC2086 # options, not one word
python scripts/publish_pages.py --local "${CARGO_TARGET_DIR:-target}/debug/local" $stack
