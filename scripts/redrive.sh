#!/usr/bin/env bash
# Sends everything in the dead-letter queue back to the votes' queue, through the admin routes. BASE_URL: the stack,
# http://localhost:8080 by default; ADMIN_TOKEN: a token with the scope admin, which a local stack issues itself.
set -euo pipefail

BASE_URL=${BASE_URL:-http://localhost:8080}
REQUEST_SECONDS_MAX=35 # The gateway gives up at 30.
PAUSE_SECONDS=5
# The queue's estimate may be a minute old, and messages that another request examines are hidden for half a minute.
IDLE_SECONDS_MAX=90

fail() {
    echo "redrive: $*" >&2
    exit 1
}

if [[ -z ${ADMIN_TOKEN:-} ]]; then
    ADMIN_TOKEN=$(curl --silent --fail --max-time 10 "$BASE_URL/_local/token?sub=crew&scope=admin" |
        jq --raw-output .access_token) ||
        fail "no local stack at $BASE_URL: start one with \`make run\`, or give BASE_URL=https://… and ADMIN_TOKEN=…"
fi

# call METHOD PATH: prints the answer's body if it is a success.
call() {
    local answer status
    answer=$(curl --silent --show-error --max-time "$REQUEST_SECONDS_MAX" --request "$1" "$BASE_URL/admin/$2" \
        --config - --write-out '\n%{http_code}' <<<"header = \"Authorization: Bearer $ADMIN_TOKEN\"") ||
        fail "no answer from $BASE_URL"
    status=${answer##*$'\n'}
    answer=${answer%$'\n'*}
    case $status in
    200) printf '%s' "$answer" ;;
    401 | 403) fail "HTTP $status: ADMIN_TOKEN must be a valid token with the scope admin" ;;
    *) fail "HTTP $status: $answer" ;;
    esac
}

listing=$(call GET dead-letters)
if [[ $(jq .messages <<<"$listing") == 0 ]]; then
    echo "The dead-letter queue is empty."
    exit 0
fi
jq --raw-output '
    "In the dead-letter queue: \(.messages)"
        + if .approximate then " (\(.examined) looked at)" else "" end + ", the oldest cast at \(.oldestCastAt)",
    (.groups[] | "  \(.count) × \(.reason)" + if .poll then ", poll \(.poll)" else "" end)' <<<"$listing"

moved_in_all=0
failed=0
idle_since=$SECONDS
while true; do
    answer=$(call POST dead-letters/redrive)
    read -r moved failed remaining < <(jq --raw-output '"\(.moved) \(.failed) \(.remaining)"' <<<"$answer")
    moved_in_all=$((moved_in_all + moved))
    # Only a request that moved nothing proves the end: the estimate alone may be old.
    ((moved > 0 || remaining > 0)) || break
    if ((moved > 0)); then
        echo "Moved back: $moved_in_all; remaining: $remaining"
        idle_since=$SECONDS
    elif ((SECONDS - idle_since > IDLE_SECONDS_MAX)); then
        fail "moved back $moved_in_all, but $remaining remain, $failed of them refused by the queue: see the log of DeadLettersFunction"
    else
        sleep "$PAUSE_SECONDS"
    fi
done
((failed == 0)) || fail "moved back $moved_in_all; the queue refused $failed: see the log of DeadLettersFunction"
echo "Moved back: $moved_in_all. The dead-letter queue is empty; the votes are judged by the moment they were cast."
