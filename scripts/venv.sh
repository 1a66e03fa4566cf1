# Makes or refreshes .venv in the repository root; sourced by scripts/demo, scripts/test and scripts/bench.
# Usage: extra=demo; . "$(dirname -- "$0")/venv.sh"     -> sets $root and $python, changes into $root
# Needs Python >= 3.11 (PYTHON=... picks one) and a package index. A second run returns at once.

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
python=$root/.venv/bin/python

fail() {
    printf 'error: %s\n  -> %s\n' "$1" "$2" >&2
    exit 1
}

find_python() {
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer was found" "install one (Debian: apt-get install python3 python3-venv) or name it: PYTHON=/path/to/python3 $0"
}

make_venv() {
    base=$(find_python) || exit 1
    "$base" -c 'import ensurepip, venv' 2>/dev/null || fail "$base has no venv module" \
        "Debian and Ubuntu: apt-get install $("$base" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    rm -rf .venv
    "$base" -m venv .venv
}

install() {
    "$python" -m pip install -qq --disable-pip-version-check -c constraints.txt "$@"
}

# What is installed depends on these two files, the extra and where the checkout lies.
stamp=.venv/medseg-$extra.stamp
wanted=$(printf '%s\n' "$root" | cat - pyproject.toml constraints.txt | cksum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || ! "$python" -c 'import sys' 2>/dev/null; then
    printf 'Installing medseg[%s] into .venv (once; several minutes) ...\n' "$extra" >&2
    [ -x "$python" ] && grep -qxF "$root" .venv/medseg.root 2>/dev/null || make_venv
    printf '%s\n' "$root" >.venv/medseg.root
    install torch==2.13.0
    install hatchling editables
    install --no-build-isolation -e ".[$extra]"
    printf '%s\n' "$wanted" >"$stamp"
fi
