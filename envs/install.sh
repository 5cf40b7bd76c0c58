#!/usr/bin/env bash
# Makes .venv with what requirements.lock pins, or brings it up to date; where it is, this does nothing. The Python is
# $PYTHON; without it that of the present .venv, or else the newest that is found.
set -euo pipefail
cd "$(dirname "$0")/.."

# Snakemake passes the interpreter's path to a shell as it is, and a PATH is cut at colons.
if [[ $PWD =~ [[:space:]\'\"\`\$\&\;\|\<\>()*?\\:] ]]; then
  echo "The path of this folder has a character with which Snakemake cannot start jobs: '${BASH_REMATCH[0]}' in" >&2
  echo "  $PWD" >&2
  echo "Nothing was installed. Move the folder to a path without spaces, quotes, colons and other characters that mean" >&2
  echo "something to a shell, and run make again." >&2
  exit 1
fi

present=$(PYTHON=.venv/bin/python envs/find_python.sh 2>/dev/null) || present=
python=$present
if [ -z "$present" ] || [ -n "${PYTHON:-}" ]; then
  python=$(envs/find_python.sh)
fi
if [ "$python" -ef "$present" ] && cmp -s requirements.lock .venv/installed; then
  exit
fi

echo "installing requirements.lock into .venv with $python (some minutes)"
rm -f .venv/installed
another_python=
[ "$python" -ef "$present" ] || another_python=--clear
"$python" -m venv $another_python .venv
pip() { .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"; }
# In two steps: with torch at its pinned version there, what depends on torch asks for no other.
torch=$(grep '^torch==' requirements.lock)
pip "$torch"
pip --requirement requirements.lock
# Or else the first jobs compile it, each for itself.
PYTHONPATH=scripts .venv/bin/python -m adaptive_samplers.engines.precompile ||
  echo "what draws tokens could not be compiled ahead; the first jobs will do it" >&2
cp requirements.lock .venv/installed
