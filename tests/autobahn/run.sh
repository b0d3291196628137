#!/bin/sh
# Lets the Autobahn fuzzing client loose on the server at VOXHALL_URL, with the cases that AUTOBAHN_CASES names ("1.*
# 2.3"), and leaves its report in the folder AUTOBAHN_REPORT. The suite only runs on Python 2.7: one on the path,
# pyenv's, or one that pyenv or apt-get installs. Installs what it needs the first time; fails, and never skips, when
# it can't have it.
set -eu
cd "$(dirname "$0")"

: "${VOXHALL_URL:?set it to a running server, such as ws://127.0.0.1:8080}"
: "${AUTOBAHN_CASES:?set it to the cases to run, such as 1.* 2.*}"
: "${AUTOBAHN_REPORT:?set it to the folder for the report}"

env=../../target/autobahn-env
boot=../../target/autobahn-boot
pyenv_root=${PYENV_ROOT:-${HOME:-}/.pyenv}

# The first of these that is really there: pyenv's shims stand on the path for versions that are not selected.
python27() {
    for python in python2.7 "$pyenv_root"/versions/2.7*/bin/python2.7; do
        "$python" -c 'import sys, zlib, ssl' >/dev/null 2>&1 && { echo "$python"; return; }
    done
    return 1
}

install_python27() {
    if command -v pyenv >/dev/null 2>&1; then
        pyenv install --skip-existing 2.7.18 >&2
    elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        { apt-get update -q && apt-get install -qy --no-install-recommends python2.7 python2.7-dev; } >&2
    fi
}

if ! cmp -s requirements.txt "$env/.installed"; then
    python=$(python27) || { install_python27 && python=$(python27); } || {
        echo "Python 2.7 is missing, without which the Autobahn test suite does not run; install it (pyenv install 2.7.18)" >&2
        exit 1
    }
    if ! python3 -c 'import ensurepip' 2>/dev/null; then
        [ "$(id -u)" = 0 ] || { echo "python3 with venv is missing; install it (apt-get install python3-venv)" >&2; exit 1; }
        apt-get update -q && apt-get install -qy --no-install-recommends python3 python3-venv
    fi
    # The last virtualenv that makes environments for Python 2.7.
    python3 -m venv --clear "$boot"
    "$boot/bin/pip" install -q --disable-pip-version-check virtualenv==20.21.1
    "$boot/bin/virtualenv" -q --clear -p "$python" "$env"
    PYTHONWARNINGS=ignore "$env/bin/pip" install -q --disable-pip-version-check -r requirements.txt
    cp requirements.txt "$env/.installed"
fi

mkdir -p "$AUTOBAHN_REPORT"
rm -f "$AUTOBAHN_REPORT"/index.json
cases=$(set -f; for case in $AUTOBAHN_CASES; do printf '%s"%s"' "${separator:-}" "$case"; separator=", "; done)
cat >"$AUTOBAHN_REPORT/spec.json" <<END
{
    "outdir": "$AUTOBAHN_REPORT",
    "servers": [{"agent": "voxhall", "url": "$VOXHALL_URL/echo"}],
    "cases": [$cases],
    "exclude-cases": [],
    "exclude-agent-cases": {}
}
END
# Its log has no place of its own: it is shown when the suite itself fails.
"$env/bin/wstest" -m fuzzingclient -s "$AUTOBAHN_REPORT/spec.json" >"$AUTOBAHN_REPORT/log" 2>&1 || {
    cat "$AUTOBAHN_REPORT/log" >&2
    exit 1
}
