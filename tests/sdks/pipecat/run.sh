#!/bin/sh
# Holds a conversation through the OpenAI realtime service of the Python package `pipecat-ai` with the server at VOXHALL_URL.
# Installs what it needs the first time; fails, and never skips, when it can't have it.
set -eu
cd "$(dirname "$0")"

: "${VOXHALL_URL:?set it to a running server, such as ws://127.0.0.1:8080}"

venv=../../../target/sdk-pipecat-tests
if ! python3 -c 'import ensurepip' 2>/dev/null; then
    [ "$(id -u)" = 0 ] || { echo "python3 with venv is missing; install it (apt-get install python3-venv)" >&2; exit 1; }
    apt-get update -q && apt-get install -qy --no-install-recommends python3 python3-venv
fi
if ! cmp -s requirements.txt "$venv/.installed"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -r requirements.txt
    cp requirements.txt "$venv/.installed"
fi
exec "$venv/bin/python" -m pytest -q -p no:cacheprovider "$@"
