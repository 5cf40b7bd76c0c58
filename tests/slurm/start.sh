#!/usr/bin/env bash
# Start a real SLURM of three nodes: `tests/slurm/start.sh FOLDER`, as root; `tests/slurm/stop.sh FOLDER` ends it.
#
# All nodes are this machine: each is a `slurmd` of its own, with a port, a spool folder, a log and a pid file of its own.
# `gpu1` and `gpu2` have two pretend GPUs each and are the partition `gpu`; `cpu1` has none and is the partition `cpu`,
# where jobs go that name no partition. Each has more cores and memory on paper than the machine may have, so that jobs
# as large as the workflow's fit. `slurmd -N NODE` starts a node again.
#
# SLURM needs neither systemd nor cgroups for this, and keeps everything in FOLDER but three links in /etc/slurm, where
# programs that run inside of a job look for the configuration.
set -euo pipefail

folder=$(realpath -m "${1:?usage: start.sh FOLDER}")
here=$(dirname "$(realpath "$0")")
host=$(hostname -s)
nodes=(gpu1 gpu2 cpu1)

missing=()
for program in slurmctld slurmd:slurmd squeue:slurm-client munged:munge; do
  command -v "${program%%:*}" >/dev/null || missing+=("${program##*:}")
done
if ((${#missing[@]})); then
  echo "SLURM is not installed (Debian: apt-get install --no-install-recommends slurmctld slurmd slurm-client munge;" \
    "missing: ${missing[*]})" >&2
  exit 3
fi
if ((EUID)); then
  echo "$0 must be run as root" >&2
  exit 3
fi
# A link whose target is gone was left behind by a folder that was deleted.
if [ -e /etc/slurm/slurm.conf ] && [ "$(realpath /etc/slurm/slurm.conf)" != "$folder/etc/slurm.conf" ]; then
  echo "/etc/slurm/slurm.conf is there already: another SLURM is set up on this machine" >&2
  exit 3
fi

mkdir -p "$folder"/{etc,state,spool,log,run,devices}
# munged refuses folders that others may write to.
chmod 755 "$folder" "$folder"/*
head -c 1024 /dev/urandom >"$folder/etc/munge.key"
chmod 400 "$folder/etc/munge.key"
for number in 0 1; do
  # Any character device will do; this one is the null device.
  rm -f "$folder/devices/gpu$number"
  mknod "$folder/devices/gpu$number" c 1 3
done

read -r controller_port gpu1_port gpu2_port cpu1_port < <(python3 - <<'PYTHON'
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
print(*(s.getsockname()[1] for s in sockets))
PYTHON
)

# Shorter than usual are the waits: a node counts as lost when it has not answered for SlurmdTimeout, and a job that is
# put back into the queue waits for cred_expire, until what allowed it to start on the lost node is worthless.
cat >"$folder/etc/slurm.conf" <<CONFIGURATION
ClusterName=threenodes
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.socket,cred_expire=10
CredType=cred/munge
SlurmctldPort=$controller_port
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/%n.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2
SlurmctldTimeout=30
SlurmdTimeout=10
ReturnToService=1
KillWait=5
MinJobAge=3600
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName=gpu1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$gpu1_port CPUs=32 RealMemory=200000 Gres=gpu:pretend:2
NodeName=gpu2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$gpu2_port CPUs=32 RealMemory=200000 Gres=gpu:pretend:2
NodeName=cpu1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$cpu1_port CPUs=32 RealMemory=200000
PartitionName=cpu Nodes=cpu1 Default=YES MaxTime=1-00:00:00 DefaultTime=00:10:00 State=UP
PartitionName=gpu Nodes=gpu1,gpu2 Default=NO MaxTime=1-00:00:00 DefaultTime=00:10:00 State=UP
CONFIGURATION
cat >"$folder/etc/gres.conf" <<CONFIGURATION
AutoDetect=off
NodeName=gpu[1-2] Name=gpu Type=pretend File=$folder/devices/gpu[0-1]
CONFIGURATION
printf 'CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n' >"$folder/etc/cgroup.conf"

mkdir -p /etc/slurm
for name in slurm gres cgroup; do
  ln -sfn "$folder/etc/$name.conf" "/etc/slurm/$name.conf"
done

munged --force --num-threads=2 --key-file="$folder/etc/munge.key" --socket="$folder/run/munge.socket" \
  --pid-file="$folder/run/munged.pid" --log-file="$folder/log/munged.log" --seed-file="$folder/run/munged.seed"
slurmctld -i
for node in "${nodes[@]}"; do
  mkdir -p "$folder/spool/$node"
  slurmd -N "$node"
done
for _ in $(seq 60); do
  if [ "$(sinfo --noheader --Node --format %T 2>/dev/null | sort -u)" = idle ]; then
    exit 0
  fi
  sleep 0.5
done
echo "SLURM did not come up within 30 s; its logs are in $folder/log" >&2
exit 1
