#!/bin/sh
# Holds a conversation through `@openai/agents-realtime` in a real, headless Chromium with the server at VOXHALL_URL.
# Installs what it needs the first time; fails, and never skips, when it can't have it.
# CHROMIUM names another browser than the one on the path.
set -eu
cd "$(dirname "$0")"

: "${VOXHALL_URL:?set it to a running server, such as ws://127.0.0.1:8080}"

need() {
    command -v "$1" >/dev/null && return
    [ "$(id -u)" = 0 ] || { echo "$1 is missing; install it (apt-get install $2)" >&2; exit 1; }
    apt-get update -q && apt-get install -qy --no-install-recommends "$2"
}
need npm npm
node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)' || { echo "node $(node --version) is too old; 20 or newer is needed" >&2; exit 1; }
[ -n "${CHROMIUM:-}" ] || need chromium chromium
CHROMIUM=${CHROMIUM:-$(command -v chromium)}
export CHROMIUM

if ! cmp -s package-lock.json node_modules/.installed; then
    npm ci --no-audit --no-fund
    cp package-lock.json node_modules/.installed
fi
exec node --test
