#!/bin/sh
# Runs a stock Celery worker in the current folder, with these arguments. Installs Celery the first time; fails, and never
# skips, when it can't have it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../tools.sh"
venv "$here/../../target/celery-tests" "$here/requirements.txt"
exec "$python" -m celery "$@"
