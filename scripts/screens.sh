#!/usr/bin/env bash
# Takes the pictures in docs/screens anew, from a stack of its own, as the browser tests meet each state.
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
