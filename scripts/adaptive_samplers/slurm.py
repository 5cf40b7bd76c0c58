"""Jobs that an earlier Snakemake left in SLURM: found, named, and cancelled."""

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from adaptive_samplers.errors import UserError
from adaptive_samplers.stage import say

LISTED = 10


@dataclass(frozen=True)
class LiveJob:
    """A job in the queue: number, state, for how long it has run, and what it makes (`rule:wildcard=value,...`)."""

    number: str
    state: str
    elapsed: str
    targets: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.number} ({self.state.lower()}, {self.elapsed}) {' '.join(self.targets)}"


def live_jobs(folder: Path) -> list[LiveJob]:
    """This user's jobs in the queue that were submitted by a Snakemake started in `folder`; none without SLURM."""
    if not shutil.which("squeue"):
        return []
    listed = _ask("squeue", "--me", "--noheader", "--format", "%i|%T|%M|%Z")
    if listed is None:
        say("squeue does not answer; jobs of an earlier run may be alive and are not looked for")
        return []
    jobs = []
    for line in listed.splitlines():
        number, state, elapsed, directory = line.split("|", 3)
        if os.path.realpath(directory) == os.path.realpath(folder):
            script = _ask("scontrol", "write", "batch_script", number, "-")
            if script and (targets := submitted_targets(script)):
                jobs.append(LiveJob(number, state, elapsed, targets))
    return jobs


def submitted_targets(script: str) -> tuple[str, ...]:
    """What a batch script submitted by Snakemake makes; empty for another script."""
    # One word, or several for a group of rules, up to the next option.
    found = re.search(r"\s--target-jobs\s+(.*?)(?=\s--[a-z]|$)", script, re.DOTALL)
    return tuple(shlex.split(found[1])) if found else ()


def refuse_duplicates(folder: Path, targets: Iterable[str]) -> None:
    """Refuse to run what jobs of an earlier Snakemake are still making.

    Such jobs survive when Snakemake is killed. Duplicates would occupy nodes and GPUs, only to find that another job is
    writing the output.

    Raises
    ------
    UserError
        If there are such jobs.
    """
    wanted = set(targets)
    if jobs := [job for job in live_jobs(folder) if wanted & set(job.targets)]:
        runs = sorted({run for job in jobs for run in _runs(job)})
        lines = [f"{len(jobs)} jobs of an earlier Snakemake are still in SLURM's queue, and make what is wanted here:"]
        lines += [f"  {job}" for job in jobs[:LISTED]]
        lines += [f"  ... and {len(jobs) - LISTED} more"] if len(jobs) > LISTED else []
        lines += ["Wait until they have ended, or cancel them (finished answers are kept), and start again:"]
        lines += [f"  python scripts/cancel_jobs.py {shlex.quote(run)}" for run in runs]
        raise UserError("\n".join(lines))


def cancel_jobs(folder: Path, run: str, patience: float = 120.0) -> list[LiveJob]:
    """Cancel the jobs of a run and wait until they have ended; return the cancelled jobs.

    Raises
    ------
    UserError
        If some are still running after `patience` seconds.
    """
    cancelled = [job for job in live_jobs(folder) if run in _runs(job)]
    if not cancelled:
        return []
    subprocess.run(["scancel", *(job.number for job in cancelled)], check=False)
    deadline = time.monotonic() + patience
    while left := [job for job in live_jobs(folder) if run in _runs(job)]:
        if time.monotonic() > deadline:
            raise UserError(f"these jobs do not end: {', '.join(map(str, left))}; ask your cluster's administrators")
        time.sleep(1)
    return cancelled


def _runs(job: LiveJob) -> set[str]:
    """The runs that a job works for."""
    return {found[1] for target in job.targets if (found := re.search(r"[:,]run=([^,]+)", target))}


def _ask(*command: str) -> str | None:
    """What a command prints, or None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None
