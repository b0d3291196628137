#!/bin/sh
# Tests the client: `run.sh parts` its types, its parts, its package and the shared table of cases; `run.sh live` plays against the
# server at VOXHALL_URL, `run.sh tokens` against one that knows tokens signed with VOXHALL_SECRET. The client is for Node 22: where there is an older one, another is installed beside the tests.
set -eu
cd "$(dirname "$0")"
. ../../../tests/tools.sh

npm_packages
node=$(command -v node)
if ! node -e 'process.exit(parseInt(process.versions.node) >= 22 ? 0 : 1)'; then
    node=$(ls -d "$PWD"/node_modules/node-linux-*/bin/node | head -n 1)
fi
suite=$1
shift
case $suite in
parts)
    need python3 python3
    "$node" ../build.js --check
    "$node" node_modules/typescript/bin/tsc --project types/tsconfig.json
    exec "$node" --test "$@" units.test.js link.test.js sound.test.js cases.test.js package.test.js examples.test.js
    ;;
live)
    : "${VOXHALL_URL:?set it to a running server, such as ws://127.0.0.1:8080}"
    exec "$node" --test "$@" live.test.js examples.test.js
    ;;
tokens)
    : "${VOXHALL_URL:?}" "${VOXHALL_ADMIN:?}" "${VOXHALL_SECRET:?}"
    exec "$node" --test "$@" tokens.test.js
    ;;
esac
