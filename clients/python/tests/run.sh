#!/bin/sh
# Installs the client as its users do, then runs its tests: `run.sh cases` checks types, the parts, and the shared table of cases;
# `run.sh live` plays against the server at VOXHALL_URL, and with servers of its own, which VOXHALL_BIN starts and starts anew.
set -eu
cd "$(dirname "$0")"
. ../../../tests/tools.sh

venv ../../../target/client-python-tests requirements.txt "$(cd .. && pwd)[msgpack]"
suite=$1
shift
case $suite in
cases)
    # Strictly, and what is installed: the types are part of the package.
    "$python" -m mypy --strict --package voxhall
    exec "$python" -m pytest -q -p no:cacheprovider --ignore=live "$@"
    ;;
live)
    : "${VOXHALL_URL:?set it to a running server, such as ws://127.0.0.1:8080}"
    : "${VOXHALL_BIN:?set it to the server's program}"
    exec "$python" -m pytest -q -p no:cacheprovider live "$@"
    ;;
esac
