#!/usr/bin/env bash
# Renews the pictures in docs/screens, from a stack of its own, at each state that the browser tests reach.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/stack.sh
source scripts/stack.sh

work=$(mktemp -d)
trap 'kill_stack; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

start_stack "$work/stack.log"
export BASE_URL SCREENS=$PWD/docs/screens
scripts/test_pages.sh
stop_stack
