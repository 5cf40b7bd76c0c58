#!/usr/bin/env bash
# End the SLURM that `tests/slurm/start.sh FOLDER` started, with its jobs, and nothing else.
set -euo pipefail

folder=$(realpath -m "${1:?usage: stop.sh FOLDER}")

if [ "$(realpath -m /etc/slurm/slurm.conf)" = "$folder/etc/slurm.conf" ]; then
  # Without a controller that answers there are no jobs to end.
  timeout 10 scancel --user root 2>/dev/null || true
  for _ in $(seq 60); do
    [ -n "$(timeout 10 squeue --noheader 2>/dev/null)" ] || break
    sleep 0.5
  done
fi

# All at once, because each takes seconds to end.
running=()
for program in gpu1:slurmd gpu2:slurmd cpu1:slurmd slurmctld:slurmctld munged:munged; do
  number=$(cat "$folder/run/${program%%:*}.pid" 2>/dev/null) || continue
  # The number may belong to another program by now.
  [ "$(cat "/proc/$number/comm" 2>/dev/null)" = "${program##*:}" ] || continue
  kill "$number"
  running+=("$number")
done
for _ in $(seq 80); do
  ((${#running[@]})) && kill -0 "${running[@]}" 2>/dev/null || break
  sleep 0.25
done

for name in slurm gres cgroup; do
  [ "$(realpath -m "/etc/slurm/$name.conf")" != "$folder/etc/$name.conf" ] || rm -f "/etc/slurm/$name.conf"
done
