#!/bin/sh
# Writes requirements.lock: every package of a fresh environment that pip resolves from pyproject.toml.
# usage: scripts/lock.sh [PYTHON]
set -eu
cd "$(dirname "$0")/.."
# torchaudio says nothing of the torch it was built for: this pair is known to work together, with and without a GPU.
# Raise it by hand, after `make test` and a run on a GPU.
pair="torch==2.14.1 torchaudio==2.11.0"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"${1:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --use-pep517 \
    --editable ".[dev,listen,matchering,neutone,onnx,ray,remote,separate,serve,tensorboard]" $pair
"$folder/bin/python" -m pip check
{
    echo "# Every package of a fresh environment made from pyproject.toml with all its extras, on Linux without a GPU."
    echo "# Written by \`make lock\`: change pyproject.toml, not this file."
    # Only Linux has packages of CUDA; elsewhere torch does without them.
    "$folder/bin/python" -m pip freeze --all --exclude pip --exclude wheel --exclude-editable |
        sed -E '/^(cuda-|nvidia-|triton==)/ s/$/ ; sys_platform == "linux"/'
} >"$folder/lock"
mv "$folder/lock" requirements.lock
echo "requirements.lock: $(grep -c == requirements.lock) packages"
