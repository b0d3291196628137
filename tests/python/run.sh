#!/bin/sh
# Plays the conversations through the Python client `websockets` against the server at VOXHALL_URL and VOXHALL_ADMIN.
# Installs what it needs the first time; fails, and never skips, when it can't have it.
set -eu
cd "$(dirname "$0")"
. ../tools.sh

: "${VOXHALL_URL:?set it to a running server, such as ws://127.0.0.1:8080}"
: "${VOXHALL_ADMIN:?set it to its admin address, such as http://127.0.0.1:9090}"

venv ../../target/python-tests requirements.txt
exec "$python" -m pytest -q -p no:cacheprovider "$@"
