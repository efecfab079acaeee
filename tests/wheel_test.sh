#!/usr/bin/env bash
# Build sdist and wheel, install the wheel in a fresh environment outside the checkout, and run it from an empty folder.
# Usage: tests/wheel_test.sh [PYTHON]   where PYTHON has the package `build`
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}

temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT

"$python" -m build --outdir "$temp/dist" . >"$temp/build.log" 2>&1 || { cat "$temp/build.log"; exit 1; }
"$python" -m venv "$temp/venv"
"$temp/venv/bin/python" -m pip install --quiet "$temp"/dist/*.whl

mkdir "$temp/empty"
cd "$temp/empty"
bin="$temp/venv/bin"
"$bin/lit-rl" --help >/dev/null
"$bin/python" -m lit_rl --help >/dev/null
"$bin/python" -c "from lit_rl import PPO, SAC; from lit_rl.callbacks import RolloutCheckpoint"
if "$bin/python" -c "import callbacks" 2>/dev/null; then
    echo "the wheel installs a top-level package 'callbacks'"
    exit 1
fi
"$bin/lit-rl" fit --config ppo_cartpole --trainer.fast_dev_run true
echo "wheel: installed and trained from an empty folder"
