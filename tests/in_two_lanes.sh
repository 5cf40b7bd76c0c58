#!/usr/bin/env bash
# Runs the integration tests in two lanes: those of clusters and servers, which wait a lot, beside all others. In a lane
# they run one after the other: there is one SLURM on a machine, and others share a finished run. What the first lane
# prints comes at the end, whole.
set -uo pipefail
cd "$(dirname "$0")/.."
servers=$(mktemp)
trap 'kill "${lane:-}" 2>/dev/null; rm -f "$servers"' EXIT
.venv/bin/python -m pytest --durations=15 -m "slurm or sglang or vllm" tests/integration >"$servers" 2>&1 &
lane=$!
.venv/bin/python -m pytest --durations=15 -m "not (slurm or sglang or vllm)" tests/integration
others=$?
wait "$lane"
first=$?
cat "$servers"
exit $((others ? others : first))
