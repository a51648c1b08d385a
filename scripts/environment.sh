#!/bin/sh
# Makes .venv from requirements.lock, or completes it: after an interrupted install, a changed lock, a changed
# pyproject.toml, a moved checkout or another Python. Does nothing where .venv is complete.
# usage: scripts/environment.sh [PYTHON]      (PYTHON is asked only where .venv has to be made)
set -eu
cd "$(dirname "$0")/.."
python=${1:-python3}

fail() {
    echo "error: $1" >&2
    exit 2
}

# What .venv was made from; written at the very end, so that a half-made environment never has it.
made_from() {
    { pwd && .venv/bin/python -V && cat pyproject.toml requirements.lock; } 2>/dev/null | cksum
}

if [ -f .venv/made-from ] && [ "$(cat .venv/made-from)" = "$(made_from)" ]; then
    exit 0
fi
rm -f .venv/made-from

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1 ||
        fail "Python 3.11, 3.12 or 3.13 is needed, and '$python' is not one: name it, make PYTHON=python3.12"
    "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
        fail "'$python' can't make environments: on Debian and Ubuntu, apt install python3-venv"
    echo "Making .venv with $("$python" -V)"
    "$python" -m venv --clear .venv
fi

echo "Installing the pinned packages into .venv (a few minutes; about 6 GB on disk)"
pip() {
    .venv/bin/python -m pip "$@"
}
# setuptools first: it builds what has no wheel, and no build fetches another version of its own.
# --no-deps: exactly the pins and nothing else; `pip check` then says whether they are all there.
setuptools=$(grep '^setuptools==' requirements.lock)
pip install --quiet --disable-pip-version-check "$setuptools"
pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --use-pep517 -r requirements.lock
pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
pip check >/dev/null || fail "the packages in .venv don't fit together: .venv/bin/python -m pip check says where"
made_from >.venv/made-from
echo "The environment is complete"
