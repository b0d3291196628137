#!/bin/sh
# Holds conversations through the Node package `@openai/agents-realtime` with the server at VOXHALL_URL.
# Installs what it needs the first time; fails, and never skips, when it can't have it.
set -eu
cd "$(dirname "$0")"

: "${VOXHALL_URL:?set it to a running server, such as ws://127.0.0.1:8080}"

if ! command -v npm >/dev/null; then
    [ "$(id -u)" = 0 ] || { echo "node and npm are missing; install them (apt-get install nodejs npm)" >&2; exit 1; }
    apt-get update -q && apt-get install -qy --no-install-recommends nodejs npm
fi
if ! cmp -s package-lock.json node_modules/.installed; then
    npm ci --no-audit --no-fund
    cp package-lock.json node_modules/.installed
fi
exec node --test
