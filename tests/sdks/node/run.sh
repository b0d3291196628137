#!/bin/sh
# Holds conversations through the Node package `@openai/agents-realtime` with the server at VOXHALL_URL.
# Installs what it needs the first time; fails, and never skips, when it can't have it.
set -eu
cd "$(dirname "$0")"
. ../../tools.sh

: "${VOXHALL_URL:?set it to a running server, such as ws://127.0.0.1:8080}"

npm_packages
exec node --test
