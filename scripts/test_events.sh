#!/usr/bin/env bash
# Each function alone on its sample event in events/, under cargo-lambda's emulator of Lambda, with the environment that a
# running stack has given it. Arguments: the folder of `sam build`, and that of the stack's environments.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/stack.sh
source scripts/stack.sh

INVOKE_SECONDS=70 # A shift of the results function takes most of a minute.
READY_SECONDS=20

artifacts=$1 environments=$2
work=$(mktemp -d)
pids=()
stop() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM

read -r port answer_port <<<"$(free_ports 2)"
.venv/bin/cargo-lambda lambda watch --only-lambda-apis --timeout 120 --invoke-port "$port" >"$work/watch.log" 2>&1 </dev/null &
pids+=($!)

deadline=$((SECONDS + READY_SECONDS))
until (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    ((SECONDS < deadline)) || {
        cat "$work/watch.log" >&2
        exit 1
    }
    sleep 0.1
done

# CloudFormation's side of a custom resource: takes one answer and prints it.
python3 - "$answer_port" >"$work/answer.json" <<'PYTHON' &
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Answer(BaseHTTPRequestHandler):
    def do_PUT(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).handle_request()
PYTHON
pids+=($!)

# invoke NAME LOGICAL_ID FILTER: the answer must satisfy the filter of jq.
invoke() {
    local name=$1 id=$2 filter=$3 answer variables
    # The stack has no user pool, so it has no scopes function, which reads no variables anyway.
    mapfile -t variables < <([[ $name == scopes ]] || cat "$environments/$id.env")
    env -i PATH="$PATH" AWS_LAMBDA_FUNCTION_NAME="$name" AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256 \
        AWS_LAMBDA_FUNCTION_VERSION=1 "${variables[@]}" AWS_LAMBDA_RUNTIME_API="http://127.0.0.1:$port/.rt/$name" \
        "$artifacts/$id/bootstrap" >"$work/$name.log" 2>&1 &
    pids+=($!)
    sed "s/127.0.0.1:8099/127.0.0.1:$answer_port/" "events/$name.json" >"$work/$name.json"
    answer=$(timeout "$INVOKE_SECONDS" .venv/bin/cargo-lambda lambda invoke "$name" --data-file "$work/$name.json" --invoke-port "$port" \
        --invoke-address 127.0.0.1) || {
        cat "$work/watch.log" "$work/$name.log" >&2
        return 1
    }
    jq --exit-status "$filter" <<<"$answer" >/dev/null || {
        printf '%s answered %s\n' "$name" "$answer" >&2
        return 1
    }
    printf '%-14s %s\n' "$name" "${answer:0:90}"
}

invoke migrate MigrateFunction '. == null'
jq --exit-status '.Status == "SUCCESS"' "$work/answer.json" >/dev/null || {
    cat "$work/answer.json" >&2
    exit 1
}
invoke admin AdminFunction '.statusCode == 201'
invoke votes VotesFunction '.batchItemFailures == []'
grep --quiet '"VotesCounted":2' "$work/votes.log" || {
    cat "$work/votes.log" >&2
    exit 1
}
invoke polls PollsFunction '.statusCode == 200'
invoke results ResultsFunction '. == null'
invoke export ExportFunction '. == null'
invoke deadletters DeadLettersFunction '.statusCode == 200'
invoke invalidations InvalidationsFunction '.batchItemFailures == []'
invoke scopes ScopesFunction '.response.claimsAndScopeOverrideDetails.accessTokenGeneration.scopesToAdd == ["admin"]'

for event in events/*.json; do
    [[ -f $work/$(basename "$event" .json).log ]] || {
        echo "$event is tried by no function" >&2
        exit 1
    }
done
