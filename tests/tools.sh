# What the suites in other languages need, for their run.sh: `. ../tools.sh`, after `cd` to their own folder. Everything is
# installed the first time; what can't be had fails, and is never skipped.

# need PROGRAM PACKAGE…: a program on the path.
need() {
    program=$1
    shift
    command -v "$program" >/dev/null 2>&1 && return
    install_packages "$program" "$@"
}

# install_packages WHAT PACKAGE…
install_packages() {
    missing=$1
    shift
    [ "$(id -u)" = 0 ] || { echo "$missing is missing; install it (apt-get install $*)" >&2; exit 1; }
    { apt-get update -q && apt-get install -qy --no-install-recommends "$@"; } >&2
}

# venv FOLDER REQUIREMENTS [PACKAGE-FOLDER…]: a Python environment, made once; `$python` is its interpreter. Packages in folders
# are installed anew when something in them has changed; `folder[extra]` names an extra.
venv() {
    env=$1
    requirements=$2
    shift 2
    python3 -c 'import venv, ensurepip' 2>/dev/null || install_packages "python3 with venv" python3 python3-venv
    # What a build leaves in a folder is none of it.
    stamp=$(
        cat "$requirements"
        for folder; do
            find "${folder%%\[*}" -type f ! -path '*/build/*' ! -path '*.egg-info/*' ! -path '*/tests/*' ! -name '*.pyc' -exec cksum {} + | sort
        done
    )
    if [ "$(cat "$env/.installed" 2>/dev/null)" != "$stamp" ]; then
        python3 -m venv --clear "$env" >&2
        "$env/bin/pip" install -q --disable-pip-version-check -r "$requirements" "$@" >&2
        printf '%s\n' "$stamp" >"$env/.installed"
    fi
    python=$(cd "$env" && pwd)/bin/python
}

# npm_packages: those of package-lock.json.
npm_packages() {
    need node nodejs npm
    need npm npm
    node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)' || { echo "node $(node --version) is too old; 20 or newer is needed" >&2; exit 1; }
    if ! cmp -s package-lock.json node_modules/.installed; then
        npm ci --no-audit --no-fund
        cp package-lock.json node_modules/.installed
    fi
}

# browser: Chromium, the one that CHROMIUM names or the one on the path.
browser() {
    [ -n "${CHROMIUM:-}" ] || need chromium chromium
    CHROMIUM=${CHROMIUM:-$(command -v chromium)}
    export CHROMIUM
}
