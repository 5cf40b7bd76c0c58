"""Restarting after a kill: the locks that Snakemake left, and its jobs that still run.

Snakemake locks a run by files, which stay when it is killed, and cannot tell afterwards whether it still runs. So every
Snakemake has a lock here that ends with its process, and every job has one on its log.
"""

import atexit
import shlex
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from adaptive_samplers.errors import UserError
from adaptive_samplers.locks import NoLocksError, holders, only_writer
from adaptive_samplers.stage import say

# In the working directory: a folder for each run, with a lock for each Snakemake that works on it.
AT_WORK = Path(".snakemake/at_work")
SNAKEMAKE_LOCKS = Path(".snakemake/locks")
# A killed Snakemake is gone at once; a killed job that held much memory, or a GPU, takes a moment to end.
SNAKEMAKE_ENDS = 1.0
JOBS_END = 10.0
LISTED = 10


def sign_in(run: str, patience: float = SNAKEMAKE_ENDS) -> None:
    """Register as a Snakemake working on `run` until this process ends, and delete the locks of a killed one.

    Snakemake's lock files are deleted if they name files of this run and of no other, and no other Snakemake is at
    work on this run. Where one is, or where the file system cannot tell, a line says so; whether that is a reason to
    stop is left to Snakemake, which knows the files that are wanted.
    """
    mine = AT_WORK / run / uuid4().hex
    mine.parent.mkdir(parents=True, exist_ok=True)
    signed_in = ExitStack()
    signed_in.enter_context(only_writer(mine))
    atexit.register(signed_in.close)
    # Read before looking for the others: whoever locks after this has registered before.
    left = [path for path in SNAKEMAKE_LOCKS.glob("*.lock") if _runs_of(path) == {run}]
    if not left:
        return
    try:
        others = holders(
            (path.with_suffix("") for path in mine.parent.glob("*.lock") if path.stem != mine.name), patience
        )
    except NoLocksError:
        unlock = shlex.join(["snakemake", "--unlock", *sys.argv[1:]])
        say(f"Snakemake's locks of {run} cannot be checked on this file system. If no other one runs, type: {unlock}")
        return
    if others:
        who = "; ".join(others.values())
        say(
            f"Another Snakemake is at work on {run}: {who}. Wait until it has ended, or end it, if this one is refused."
        )
        return
    for path in left:
        path.unlink(missing_ok=True)
    say(f"The Snakemake that was last at work on {run} was killed. This one goes on where it stopped.")


def _runs_of(lock: Path) -> set[str]:
    """The runs whose files a lock file of Snakemake names, a path a line; the last line may be half-written."""
    try:
        paths = lock.read_text().split("\n")[:-1]
    except FileNotFoundError:
        return set()
    return {parts[1] for path in paths if (parts := path.split("/"))[0] == "results" and len(parts) > 2}


def refuse_living_jobs(logs: Iterable[str], patience: float = JOBS_END) -> None:
    """Refuse to run what jobs of a killed Snakemake are still making, by the logs of the requested jobs.

    Raises
    ------
    UserError
        If there still are such jobs after `patience` seconds.
    """
    try:
        living = holders(map(Path, logs), patience)
    except NoLocksError:
        return
    if living:
        lines = [f"{len(living)} jobs of an earlier Snakemake are still running, and make what is wanted here:"]
        lines += [f"  {who}: {log}" for log, who in list(living.items())[:LISTED]]
        lines += [f"  ... and {len(living) - LISTED} more"] if len(living) > LISTED else []
        lines += ["Wait until they have ended, or end them with `kill` (finished answers are kept), and start again."]
        raise UserError("\n".join(lines))
