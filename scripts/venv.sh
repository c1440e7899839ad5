#!/usr/bin/env bash
# Brings .venv to what requirements.txt says; costs nothing when it already is.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.venv/requirements.txt
cmp -s requirements.txt "$stamp" && exit 0
echo "setup: installing the tools of requirements.txt into .venv"
rm -rf .venv # Not `venv --clear`, which would empty what a link points at.
python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt
cp requirements.txt "$stamp"
