#!/bin/sh
# Opens the talk page in a real, headless Chromium with a made-up microphone, against the server at VOXHALL_URL.
# Installs what it needs the first time; fails, and never skips, when it can't have it.
# Screenshots go to target/screenshots. CHROMIUM names another browser than the one on the path.
set -eu
cd "$(dirname "$0")"
. ../tools.sh

: "${VOXHALL_URL:?set it to a running server, such as ws://127.0.0.1:8080}"

npm_packages
browser
exec node --test
