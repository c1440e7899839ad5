#!/usr/bin/env bash
# Installs missing system packages, with a line for each. Silent if none is missing.
# Arguments: the needed parts, of: stores distribution bundler python http browser
# stores: the servers that are deployed, or the system's where those cannot be installed; distribution: the system's.
# bundler: the pinned esbuild, or the system's where that cannot be installed.
set -euo pipefail

have() { command -v "$1" >/dev/null 2>&1; }

have_postgres() {
    have postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null ||
        compgen -G '/opt/homebrew/opt/postgresql*/bin/postgres' >/dev/null ||
        compgen -G '/usr/local/opt/postgresql*/bin/postgres' >/dev/null
}

have_redis() { have redis-server || have valkey-server; }

have_browser() {
    [[ -n ${CHROMIUM:-} ]] || have chromium || have chromium-headless-shell || have chromium-browser ||
        have google-chrome || compgen -G '/Applications/*Chrom*.app' >/dev/null
}

have_python() { python3 -c 'import ensurepip, venv' >/dev/null 2>&1; }

missing=() # each: apt packages | Homebrew packages
need() {
    echo "setup: $1 is missing: installing it"
    missing+=("$2|$3")
}

if ! have cargo; then
    echo "setup: no Rust toolchain: install one from https://rustup.rs and open a new shell" >&2
    exit 1
fi
have cc || need "a C compiler (Rust links with it)" build-essential gcc

need_distribution() {
    [[ -n $postgres ]] || have_postgres || need "PostgreSQL (the ledger)" postgresql postgresql@18
    [[ -n $redis ]] || have_redis || need "Redis (the ranking)" redis-server redis
}

# Stores that are running, or chosen programs.
postgres=${DATABASE_URL:-}${POSTGRES_BIN:-} redis=${REDIS_URL:-}${REDIS_SERVER:-}
for part in "$@"; do
    case $part in
    stores)
        if [[ ${STORES:-} == distribution ]]; then
            need_distribution
        elif [[ -z $postgres || -z $redis ]] && ! "$(dirname "$0")/stores.sh"; then
            [[ ${STORES:-} != deployed ]] || exit 1
            echo "setup: using the system's packages instead"
            need_distribution
        fi
        ;;
    distribution) need_distribution ;;
    bundler)
        if ! "$(dirname "$0")/bundler.sh"; then
            echo "setup: using the system's package instead"
            have esbuild || need "esbuild (it bundles the pages)" esbuild esbuild
        fi
        ;;
    python) have_python || need "Python with venv (the tools in .venv)" "python3 python3-venv" python ;;
    http)
        have curl || need "curl" "curl ca-certificates" curl
        have jq || need "jq" jq jq
        ;;
    browser) have_browser || need "Chromium (the pages are tested in it)" "chromium-headless-shell fonts-liberation" chromium ;;
    *)
        echo "setup: unknown part: $part" >&2
        exit 2
        ;;
    esac
done
((${#missing[@]})) || exit 0

as_root() {
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

# Debian starts a server at its installation; the stack starts its own servers, on ports of their own.
policy=/usr/sbin/policy-rc.d
start_no_services() {
    [[ -e $policy ]] && return
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod +x "$policy"
    trap 'as_root rm -f "$policy"' EXIT
}

log=$(mktemp)
run_logged() {
    if ! "$@" >"$log" 2>&1; then
        cat "$log" >&2
        echo "setup: failed: $*" >&2
        exit 1
    fi
}

if have apt-get; then
    read -ra packages <<<"$(printf '%s ' "${missing[@]%%|*}")"
    start_no_services
    run_logged as_root apt-get update
    run_logged as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"
elif have brew; then
    read -ra packages <<<"$(printf '%s ' "${missing[@]##*|}")"
    run_logged brew install "${packages[@]}"
else
    echo "setup: neither apt-get nor brew here: install the above by hand" >&2
    exit 1
fi
rm -f "$log"
