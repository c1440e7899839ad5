#!/usr/bin/env bash
# Installs requirements.txt into .venv, and requirements-checkov.txt into .venv/checkov; does nothing if both are current.
set -euo pipefail
cd "$(dirname "$0")/.."

build() {
    local folder=$1 list=$2
    cmp -s "$list" "$folder/requirements.txt" && return
    echo "setup: installing the tools of $list into $folder"
    rm -rf "$folder" # Not `venv --clear`, which would empty the target of a link.
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$list"
    cp "$list" "$folder/requirements.txt"
}

build .venv requirements.txt
build .venv/checkov requirements-checkov.txt
