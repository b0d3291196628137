#!/bin/sh
# Holds a conversation through the OpenAI realtime service of the Python package `pipecat-ai` with the server at VOXHALL_URL.
# Installs what it needs the first time; fails, and never skips, when it can't have it.
set -eu
cd "$(dirname "$0")"
. ../../tools.sh

: "${VOXHALL_URL:?set it to a running server, such as ws://127.0.0.1:8080}"

venv ../../../target/sdk-pipecat-tests requirements.txt
exec "$python" -m pytest -q -p no:cacheprovider "$@"
