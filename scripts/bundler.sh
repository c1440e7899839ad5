#!/usr/bin/env bash
# Installs esbuild, which bundles the pages, from npm. Silent if it is there. Fails, with the reason in a line, if this
# machine cannot install it.
set -euo pipefail
cd "$(dirname "$0")/../local/stack/bundler"

# The tools' npm, if the machine has none.
export PATH=$PATH:$PWD/../../../.venv/bin

fail() {
    echo "setup: esbuild cannot be installed in the version of local/stack/bundler: $1" >&2
    exit 1
}

cmp -s package-lock.json node_modules/.installed && exit
for program in node npm; do
    command -v $program >/dev/null || fail "$program is missing"
done
echo "setup: installing esbuild $(sed -n 's/.*linux-x64": "\([0-9.]*\).*/\1/p' package.json) into local/stack/bundler"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Few retries: a machine without a connection has its system's packages.
npm ci --ignore-scripts --no-audit --no-fund --fetch-retries=1 --fetch-retry-mintimeout=1000 >"$log" 2>&1 ||
    fail "$(grep -v 'complete log' "$log" | tail -n 1)"
program=$(echo node_modules/@esbuild/*/bin/esbuild)
[[ -x $program ]] || fail "npm did not get it: no connection, or no package for this system"
"$program" --version >"$log" 2>&1 || fail "$(tail -n 1 "$log")"
cp package-lock.json node_modules/.installed
