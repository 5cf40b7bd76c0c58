#!/usr/bin/env bash
# Prints the interpreter of the newest suitable Python on the PATH; where PYTHON is set, of that one, if it suits.
#
#   envs/find_python.sh [VERSION ...]     # the versions that suit, newest first
#
# A command counts only if it runs, is of that version, and can make virtual environments: version managers leave
# commands behind that fail, and some systems have `venv` in a package of its own.
set -euo pipefail
[ $# -gt 0 ] || set -- 3.13 3.12 3.11

# Behind a virtual environment stands another interpreter, which is there still when that environment is made anew.
describe='import ensurepip, sys, venv; print("%d.%d" % sys.version_info[:2], sys._base_executable)'
rejected=()
for version in "$@"; do
  names=("python$version" python3 python)
  [ -z "${PYTHON:-}" ] || names=("$PYTHON")
  for name in "${names[@]}"; do
    while read -r command; do
      if ! found=$("$command" -c "$describe" 2>/dev/null); then
        rejected+=("$command (does not run, or has no module venv or ensurepip)")
      elif [ "${found%% *}" != "$version" ]; then
        rejected+=("$command (Python ${found%% *})")
      else
        echo "${found#* }"
        exit
      fi
    done < <(type -aP "$name")
  done
done

{
  echo "No suitable Python. It must be one of $*, with the modules venv and ensurepip (on Debian and Ubuntu in the package"
  echo "python3-venv). Looked for: ${PYTHON:-$(printf 'python%s ' "$@")python3 python}. Found:"
  printf '  %s\n' "${rejected[@]:-nothing}" | sort -u
  echo "Install one of these, or name the command that starts it: make PYTHON=/path/to/python ..."
} >&2
exit 1
