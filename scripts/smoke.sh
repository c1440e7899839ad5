#!/usr/bin/env bash
# Casts one vote in a poll of its own and waits until it is counted: the whole path through the deployed system.
# BASE_URL: the stack, http://localhost:8080 by default. ADMIN_TOKEN: a token with the scope admin; TOKEN: a voter's,
# ADMIN_TOKEN by default. A local stack issues both itself. The poll stays, closed and without a public result, since a
# poll with votes cannot be deleted. At the end a token with JSON in its subject casts a vote in the closed poll: it must
# be refused, or be too late. A local stack makes such a token; elsewhere give one as CRAFTED_TOKEN, if the issuer can
# sign one.
set -euo pipefail

BASE_URL=${BASE_URL:-http://localhost:8080}
BASE_URL=${BASE_URL%/}
REQUEST_SECONDS_MAX=35 # The gateway gives up at 30.
# A window of 3 s, up to 20 s more when the queue was idle, a cold start, and one failed batch (123 s).
COUNTED_SECONDS_MAX=${COUNTED_SECONDS_MAX:-180}

fail() {
    echo "smoke: $*" >&2
    exit 1
}

local_token() {
    curl --silent --fail --max-time 10 "$BASE_URL/_local/token?$1" | jq --raw-output .access_token
}

# Makes a token with a subject that, written into JSON unescaped, ends its own string and claims that the vote was cast at
# $1 (milliseconds).
crafted_token() {
    local subject
    subject=$(jq --null-input --raw-output --arg ms "$1" \
        '"smoke\"},\"castAt\":{\"DataType\":\"String\",\"StringValue\":\"\($ms)" | @uri')
    local_token "anySubject=true&sub=$subject"
}

if [[ -z ${ADMIN_TOKEN:-} ]]; then
    ADMIN_TOKEN=$(local_token "sub=crew&scope=admin") ||
        fail "no local stack at $BASE_URL: start one with \`make run\`, or give BASE_URL=https://… and ADMIN_TOKEN=…"
    TOKEN=${TOKEN:-$(local_token "sub=smoke")}
    is_local=yes
fi
TOKEN=${TOKEN:-$ADMIN_TOKEN}

# call EXPECTED_STATUS TOKEN METHOD PATH [BODY]: prints the answer's body.
call() {
    local expected=$1 token=$2 method=$3 path=$4 body=${5:-} answer status
    answer=$(curl --silent --show-error --max-time "$REQUEST_SECONDS_MAX" --request "$method" "$BASE_URL$path" \
        --header 'Content-Type: application/json' ${body:+--data "$body"} \
        --config - --write-out '\n%{http_code}' <<<"header = \"Authorization: Bearer $token\"") ||
        fail "$method $path: no answer from $BASE_URL"
    status=${answer##*$'\n'}
    answer=${answer%$'\n'*}
    [[ $status == "$expected" ]] || fail "$method $path: HTTP $status in place of $expected: $answer"
    printf '%s' "$answer"
}

poll=$(call 201 "$ADMIN_TOKEN" POST /admin/polls \
    '{"title":"Smoke test","results":"hidden","contestants":[{"name":"Smoke"},{"name":"Mirrors"}]}' | jq .id)
close() { call 200 "$ADMIN_TOKEN" POST "/admin/polls/$poll/close" >/dev/null; }
trap close EXIT
call 200 "$ADMIN_TOKEN" POST "/admin/polls/$poll/open" >/dev/null
echo "poll $poll is open"

id=$(python3 -c 'import uuid; print(uuid.uuid4())')
vote="{\"poll\":$poll,\"contestant\":1,\"id\":\"$id\"}"
# Twice: the second vote must change nothing.
call 202 "$TOKEN" POST /votes "$vote" >/dev/null
call 202 "$TOKEN" POST /votes "$vote" >/dev/null
accepted=$SECONDS
echo "accepted, twice with one id"

until receipt=$(call 200 "$TOKEN" GET "/polls/$poll/votes/mine?id=$id") &&
    [[ $(jq --raw-output .outcome <<<"$receipt") != unknown ]]; do
    ((SECONDS - accepted < COUNTED_SECONDS_MAX)) || fail "not counted within $COUNTED_SECONDS_MAX s"
    sleep 3 # The edge takes 30 such requests a minute of one token.
done
[[ $(jq --raw-output .outcome <<<"$receipt") == counted ]] || fail "the vote was not counted: $receipt"
echo "counted within $((SECONDS - accepted + 1)) s"

# The ranking follows the ledger by milliseconds, and the receipt comes from the ledger.
until audit=$(call 200 "$ADMIN_TOKEN" GET "/admin/polls/$poll/audit") &&
    [[ $(jq '.inSync and .ledgerVotes == 1 and .rankingVotes == 1' <<<"$audit") == true ]]; do
    ((SECONDS - accepted < COUNTED_SECONDS_MAX)) || fail "the books differ: $audit"
    sleep 1
done
echo "ledger, tally and ranking agree on one vote"

trap - EXIT
open_ms=$(python3 -c 'import time; print(int(time.time() * 1000))')
close

if [[ -n ${is_local:-} ]]; then
    CRAFTED_TOKEN=${CRAFTED_TOKEN:-$(crafted_token "$open_ms")}
fi
if [[ -n ${CRAFTED_TOKEN:-} ]]; then
    status=$(curl --silent --show-error --max-time "$REQUEST_SECONDS_MAX" --output /dev/null --write-out '%{http_code}' \
        --header 'Content-Type: application/json' --data "{\"poll\":$poll,\"contestant\":2}" --config - "$BASE_URL/votes" \
        <<<"header = \"Authorization: Bearer $CRAFTED_TOKEN\"") || fail "POST /votes: no answer from $BASE_URL"
    case $status in
        202)
            crafted=$SECONDS
            until audit=$(call 200 "$ADMIN_TOKEN" GET "/admin/polls/$poll/audit") &&
                [[ $(jq '.ledgerVotes > 1 or .rejected.afterClosing == 1' <<<"$audit") == true ]]; do
                ((SECONDS - crafted < COUNTED_SECONDS_MAX)) || fail "a vote with a crafted subject has no outcome: $audit"
                sleep 1
            done
            [[ $(jq .ledgerVotes <<<"$audit") == 1 ]] || fail "a subject has set when its vote was cast: $audit"
            echo "a crafted subject names a voter, and nothing else"
            ;;
        400) echo "a crafted subject is refused" ;;
        *) fail "a vote with a crafted subject: HTTP $status in place of 202 or 400" ;;
    esac
else
    echo "no crafted subject was tried: docs/OPERATIONS.md, First deployment"
fi

call 409 "$ADMIN_TOKEN" DELETE "/admin/polls/$poll" >/dev/null
echo "poll $poll is closed, and refuses to be deleted"
