#!/usr/bin/env bash
# Runs loadtests/$SCENARIO.js against BASE_URL; without it, against the stack at localhost:8080, or, if none runs there,
# against one that it starts. The scenarios' other variables are passed on. SCENARIO=stampede needs no stack. A scenario with
# VIEWERS and a SCALE starts a stack of its own, unless BASE_URL is given.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/stack.sh
source scripts/stack.sh

SCENARIO=${SCENARIO:-vote}
# The audience of a scenario with viewers, and how many of them each page stands for.
case $SCENARIO in
    show) export VIEWERS=${VIEWERS:-60000} SCALE=${SCALE:-50} ;;
    final) export VIEWERS=${VIEWERS:-1000000} SCALE=${SCALE:-300} ;;
esac
# The edge takes 120 votes a minute of each token (WafVotesPerToken).
if [[ -n ${VIEWERS:-} ]]; then
    VOTERS=$((VIEWERS / ${SCALE:-1} + 1))
else
    VOTERS=${VOTERS:-$((${RATE:-0} > 1000 ? RATE : 1000))}
fi
TOKENS_SECONDS_MAX=300 # Each of the stack's tokens is an RSA signature.

# One program with the edge and a fleet of handlers, since the throttles of a stack would protect it.
if [[ $SCENARIO == stampede ]]; then
    cargo build --quiet --locked --workspace --bin local --example stampede
    exec "${CARGO_TARGET_DIR:-target}/debug/local" stores -- "${CARGO_TARGET_DIR:-target}/debug/examples/stampede"
fi

script=loadtests/$SCENARIO.js
if [[ ! -f $script ]]; then
    echo "loadtest: no scenario $SCENARIO; there are:$(for f in loadtests/*.js; do
        grep -q '^export const options' "$f" && printf ' %s' "$(basename "$f" .js)"
    done) stampede" >&2
    exit 2
fi

work=$(mktemp -d)
trap 'kill_stack; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

answers() { curl --silent --fail --output /dev/null --max-time 10 "$1/polls"; }

if [[ -n ${BASE_URL:-} ]]; then
    answers "$BASE_URL" || {
        echo "loadtest: nothing answers at $BASE_URL/polls" >&2
        exit 1
    }
elif [[ -z ${VIEWERS:-} ]] && answers http://localhost:8080; then
    BASE_URL=http://localhost:8080
else
    scaled=
    if [[ -n ${VIEWERS:-} ]]; then
        echo "loadtest: starting a stack whose throttles are the template's divided by ${SCALE:-1}"
        scaled=$(.venv/bin/python scripts/scaled.py "${SCALE:-1}")
    else
        echo "loadtest: no stack at http://localhost:8080, starting one"
    fi
    make --no-print-directory build artifacts
    # shellcheck disable=SC2086 # one argument for each line
    start_stack "$work/stack.log" --artifacts "${CARGO_TARGET_DIR:-target}/sam" $scaled
fi

if [[ -z ${TOKENS:-} ]]; then
    TOKENS=$work/tokens.json
    curl --silent --show-error --fail --max-time "$TOKENS_SECONDS_MAX" --output "$TOKENS" \
        "$BASE_URL/_local/tokens?count=$VOTERS" || {
        echo "loadtest: $BASE_URL is no local stack: give TOKENS=file with {\"tokens\":[…]}, and ADMIN_TOKEN" >&2
        exit 1
    }
fi
if [[ -z ${ADMIN_TOKEN:-} ]]; then
    ADMIN_TOKEN=$(curl --silent --fail "$BASE_URL/_local/token?sub=crew&scope=admin" | jq -r .access_token)
fi

read -r k6_port <<<"$(free_ports 1)"
# k6 opens files from the script's folder.
TOKENS=$(realpath "$TOKENS")
K6_API=http://127.0.0.1:$k6_port
# k6's heap is small, so Go would collect garbage many times a second, on the CPUs that the stack needs.
GOGC=${GOGC:-400}
export BASE_URL ADMIN_TOKEN TOKENS K6_API GOGC
.venv/bin/k6 run --quiet --no-usage-report --address "127.0.0.1:$k6_port" "$script"

if [[ -n ${STACK_PID:-} ]]; then
    echo "Peak memory:"
    print_peak_memory
    stop_stack
fi
