# shellcheck shell=bash
# To be sourced: functions that start a stack on free ports, and stop it. They set STACK_PID, BASE_URL and AWS_URL.

STACK_READY_SECONDS=120 # A first start initialises a database cluster.
STACK_STOP_SECONDS=60   # Ctrl-C drains: the longest invocation plus the stores' shutdown.

# Prints free ports below those that Linux and macOS give to clients and to listeners on port 0.
free_ports() {
    python3 - "$1" <<'PYTHON'
import random, socket, sys
ports = []
for port in random.sample(range(20_000, 32_768), 12_768):
    with socket.socket() as candidate:
        if candidate.connect_ex(("127.0.0.1", port)) != 0:
            ports.append(port)
    if len(ports) == int(sys.argv[1]):
        break
print(*ports)
PYTHON
}

# Prints the process and its descendants, one pid a line.
family() {
    ps -axo pid=,ppid= | awk -v root="$1" '
        { parent[$1] = $2 }
        END {
            for (pid in parent) {
                for (p = pid; p != "" && p != root; p = parent[p]);
                if (p == root) print pid
            }
        }'
}

# start_stack LOG [arguments of `local run`]: starts it, and waits until it answers.
start_stack() {
    local log=$1 urls
    shift
    urls=$(mktemp -d)
    set -m # A process group of its own, so that it gets Ctrl-C only from stop_stack.
    "${CARGO_TARGET_DIR:-target}/debug/local" run --ephemeral --port 0 --aws-port 0 \
        --urls-file "$urls/urls" "$@" >"$log" 2>&1 </dev/null &
    STACK_PID=$!
    set +m
    local deadline=$((SECONDS + STACK_READY_SECONDS))
    until [[ -e $urls/urls ]]; do
        if ! kill -0 "$STACK_PID" 2>/dev/null || ((SECONDS > deadline)); then
            cat "$log" >&2
            echo "the stack did not come up" >&2
            return 1
        fi
        sleep 0.2
    done
    BASE_URL=$(jq -r .baseUrl "$urls/urls")
    # shellcheck disable=SC2034 # for the sourcing script
    AWS_URL=$(jq -r .awsUrl "$urls/urls")
    rm -r "$urls"
}

# Stops the stack like Ctrl-C, and fails if a process of it is left.
stop_stack() {
    local pids pid left=0
    pids=$(family "$STACK_PID")
    kill -INT "$STACK_PID"
    local deadline=$((SECONDS + STACK_STOP_SECONDS))
    while kill -0 "$STACK_PID" 2>/dev/null && ((SECONDS < deadline)); do sleep 0.2; done
    for pid in $pids; do
        if kill -0 "$pid" 2>/dev/null; then
            echo "left behind after Ctrl-C: $(ps -o pid=,args= -p "$pid")" >&2
            kill -KILL "$pid" 2>/dev/null || true
            left=1
        fi
    done
    wait "$STACK_PID" || {
        echo "the stack ended with status $?" >&2
        left=1
    }
    STACK_PID=
    return $left
}

# For a trap: kills every process of the stack.
kill_stack() {
    [[ -n ${STACK_PID:-} ]] || return 0
    local pids
    pids=$(family "$STACK_PID")
    # shellcheck disable=SC2086 # one argument for each pid
    kill -KILL $pids 2>/dev/null || true
}

# Prints the peak memory of each process of the stack, on Linux.
print_peak_memory() {
    local pid program name
    for pid in $(family "$STACK_PID"); do
        name=$(ps -o comm= -p "$pid") || continue
        program=$(readlink "/proc/$pid/exe" 2>/dev/null) || continue
        if [[ $program == */bootstrap ]]; then
            program=${program%/bootstrap} # The folder is named after the function.
            name=${program##*/}
        fi
        awk -v name="$name" '/^VmHWM:/ { printf "%8.1f MB  %s\n", $2 / 1024, name }' "/proc/$pid/status" 2>/dev/null || true
    done | sort -rn
}
