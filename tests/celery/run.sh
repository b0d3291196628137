#!/bin/sh
# Runs a stock Celery worker in the current folder, with these arguments. Installs Celery the first time; fails, and never
# skips, when it can't have it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv="$here/../../target/celery-tests"
if ! cmp -s "$here/requirements.txt" "$venv/.installed"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/.installed"
fi
exec "$venv/bin/celery" "$@"
