#!/bin/sh
# Makes the Python environment of the workers, once; prints its interpreter. Installs what is missing; fails, and never
# skips, when it can't have it.
set -eu
cd "$(dirname "$0")"

venv=../../target/worker-tests
if ! command -v redis-server >/dev/null 2>&1 || ! python3 -c 'import ensurepip' 2>/dev/null; then
    sh ../packages >&2
fi
if ! cmp -s requirements.txt "$venv/.installed"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -r requirements.txt >&2
    cp requirements.txt "$venv/.installed"
fi
cd "$venv"
echo "$PWD/bin/python"
