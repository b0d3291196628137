#!/bin/sh
# Makes the Python environment of the workers, once; prints its interpreter. Installs what is missing; fails, and never
# skips, when it can't have it.
set -eu
cd "$(dirname "$0")"
. ../tools.sh

command -v redis-server >/dev/null 2>&1 || sh ../packages >&2
venv ../../target/worker-tests requirements.txt
echo "$python"
