#!/usr/bin/env bash
# Installs the real SGLang for machines without a GPU into the user's cache, once, and prints its interpreter's path.
# Its packages are pinned apart from the project's, because SGLang asks for other versions of some of them. It takes
# $PYTHON, if that is of a version that SGLang has, or else one that is found: outlines_core 0.1.26, which SGLang 0.5.23
# asks for, has no wheels for Python 3.13.
set -euo pipefail
cd "$(dirname "$0")"
cache=${ADAPTIVE_SAMPLERS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/adaptive-samplers}
folder=$cache/sglang-cpu-$(sha256sum requirements.lock | cut -c -12)
if [ ! -e "$folder/installed" ]; then
  echo "installing SGLang for tests into $folder (3.4 GB, some minutes)" >&2
  rm -rf "$folder"
  versions=(3.12 3.11)
  find=../../envs/find_python.sh
  python=$("$find" "${versions[@]}" 2>/dev/null) || python=$(PYTHON='' "$find" "${versions[@]}")
  "$python" -m venv "$folder"
  pip() { "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >&2; }
  # torch comes first, so that nothing asks for a build with CUDA; what SGLang needs on a GPU alone is left out.
  pip "$(grep '^torch==' requirements.lock)"
  pip --requirement <(grep -v -e '^sglang==' -e '^torchvision==' requirements.lock)
  pip --no-deps $(grep -e '^sglang==' -e '^torchvision==' requirements.lock)
  touch "$folder/installed"
fi
echo "$folder/bin/python"
