#!/usr/bin/env bash
# Tests the whole stack from outside: an AWS SDK, load, then requests that the contract allows or forbids.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/stack.sh
source scripts/stack.sh

work=$(mktemp -d)
trap 'kill_stack; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

step() { printf '\n== %s\n' "$*"; }

step "start: the artifacts of sam build"
artifacts="${CARGO_TARGET_DIR:-target}/sam"
# schemathesis asks one function after the other, far faster than people, and Lambda takes 10 requests a second for each unit
# of reserved concurrency.
TMPDIR=$work start_stack "$work/stack.log" --artifacts "$artifacts" \
    --set PollsFunction.ReservedConcurrentExecutions=100 --set AdminFunction.ReservedConcurrentExecutions=100 \
    --set DeadLettersFunction.ReservedConcurrentExecutions=100 --parameter WafLookupsPerToken=100000
echo "ready at $BASE_URL, AWS endpoint at $AWS_URL"

step "SQS through boto3"
.venv/bin/python local/emulator/tests/sqs_boto3.py "$AWS_URL"

step "CloudFront's invalidations through boto3"
.venv/bin/python local/emulator/tests/cloudfront_boto3.py "$AWS_URL"

step "a vote's whole path, as after a deployment"
BASE_URL=$BASE_URL scripts/smoke.sh

step "each function alone, on its sample event"
scripts/test_events.sh "$artifacts" "$(dirname "$(find "$work" -name VotesFunction.env)")"

step "a small load"
# `make loadtest` judges speed: beside the tests, this machine may be compiling.
export BASE_URL PATIENCE=60
SCENARIO=vote VOTERS=200 VOTES=3000 VUS=20 scripts/loadtest.sh
SCENARIO=vote VOTERS=200 VOTES=1000 VUS=20 COUNT=10 scripts/loadtest.sh
SCENARIO=vote VOTERS=200 VOTES=1000 VUS=20 LIST=10 scripts/loadtest.sh
SCENARIO=polls USERS=300 DURATION=12 scripts/loadtest.sh
SCENARIO=show VIEWERS=100 SCALE=1 TAP_SECONDS=4 CLOSE_SECONDS=15 scripts/loadtest.sh
SCENARIO=final VIEWERS=100 SCALE=1 TAP_SECONDS=4 scripts/loadtest.sh

step "publishing the pages through boto3"
AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local .venv/bin/python scripts/publish_pages.py \
    --local "${CARGO_TARGET_DIR:-target}/debug/local" --bucket pagesbucket --region us-east-1 \
    --endpoint-url "$AWS_URL" --issuer "$BASE_URL/_local" --client-id votes \
    --invalidations-queue "$AWS_URL/000000000000/InvalidationsQueue"

step "the pages in a browser"
scripts/test_pages.sh

# Last, since it leaves polls of every kind behind, which the pages would show.
step "docs/openapi.yaml through schemathesis"
token=$(curl --silent --fail "$BASE_URL/_local/token?sub=crew&scope=admin" | jq -r .access_token)
root=$PWD
# It writes notes into the current folder.
(cd "$work" && "$root/.venv/bin/schemathesis" --config-file "$root/scripts/schemathesis.toml" \
    run "$root/docs/openapi.yaml" --url "$BASE_URL" --header "Authorization: Bearer $token")

step "stop, like Ctrl-C"
stop_stack || {
    tail -n 50 "$work/stack.log" >&2
    exit 1
}
echo "no process left"
