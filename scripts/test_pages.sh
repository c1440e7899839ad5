#!/usr/bin/env bash
# Tests the pages in a real browser, against the stack at BASE_URL. SCREENS=folder saves a picture of each state.
set -euo pipefail
cd "$(dirname "$0")/../frontend/tests"

: "${BASE_URL:?give BASE_URL=http://localhost:8080, where a stack on this machine answers}"
export PATH=$PWD/../../.venv/bin:$PATH
if ! cmp -s package-lock.json node_modules/.installed; then
    npm ci --no-audit --no-fund --loglevel=error
    cp package-lock.json node_modules/.installed
fi
exec node --test --test-concurrency="${BROWSERS:-1}" --test-reporter=spec "$@"
