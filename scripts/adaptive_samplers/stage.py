"""What every rule's script has in common: a log, threads, and errors a person can read."""

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack, redirect_stderr, suppress
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from adaptive_samplers.config.model import Config
from adaptive_samplers.config.typed import typed_config
from adaptive_samplers.errors import UserError


class _Tee:
    """Writes to the terminal and to the rule's log; as it is no terminal itself, progress comes in lines."""

    def __init__(self, *streams: TextIO) -> None:
        self.streams = streams

    def write(self, text: str) -> int:
        # Words of a server or an answer may hold what no file takes.
        text = text.encode("utf-8", "backslashreplace").decode()
        for stream in self.streams:
            # On a full disk the log misses words; the terminal, which comes first, has them.
            with suppress(OSError):
                stream.write(text)
                stream.flush()
        return len(text)

    def flush(self) -> None:
        for stream in self.streams:
            with suppress(OSError):
                stream.flush()

    def isatty(self) -> bool:
        return False


def say(message: str) -> None:
    """A line for the log and the terminal."""
    print(message, file=sys.stderr, flush=True)


def installed_copy() -> Path | None:
    """Where another copy of this library is installed than the one that runs; None where none is (or a link to it)."""
    try:
        place = Path(str(metadata.distribution("adaptive-samplers").locate_file("adaptive_samplers")))
    except metadata.PackageNotFoundError:
        return None
    # What numba compiled stays in the folder when the library is uninstalled.
    is_copy = (place / "__init__.py").is_file() and not place.samefile(Path(__file__).parent)
    return place if is_copy else None


def settings_of(snakemake: Any) -> Config:
    """The part of the config that a rule's stage may read: what its output depends on, and what no output does."""
    return typed_config(_merged(snakemake.params.settings, snakemake.params.unrelated))


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Two slices of one config together."""
    both = {key: _merged(first[key], second[key]) for key in first if isinstance(second.get(key), Mapping)}
    return {**first, **second, **both}


def _leave_gpus_alone(resources: Any) -> None:
    """Hide all GPUs from a SLURM job that asked for none: a node that does not fence them off shows those of others."""
    if "SLURM_JOB_ID" in os.environ and not resources.get("gpu"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def run_stage(main: Callable[[Any], None], snakemake: Any, patience: float | None = None) -> None:
    """Run a rule's `main(snakemake)` with its log, which one job at a time may write, and its threads.

    Another job with this log is waited for, `patience` seconds long; None takes `locks.PATIENCE`.

    What it writes to stderr goes to the terminal and to the rule's log. A `UserError` ends the job with its message
    alone; anything else with its traceback in the log too.
    """
    _leave_gpus_alone(snakemake.resources)
    # What only wants to say something may live in a server's environment, which lacks this.
    from threadpoolctl import threadpool_limits

    # It says something itself.
    from adaptive_samplers.locks import PATIENCE, only_writer

    log = Path(snakemake.log[0])
    with ExitStack() as stack:
        try:
            # As long as this job lives, a Snakemake that was started again knows it by this lock.
            stack.enter_context(only_writer(log, PATIENCE if patience is None else patience))
            stack.enter_context(redirect_stderr(_Tee(sys.stderr, stack.enter_context(open(log, "w")))))
            stack.enter_context(threadpool_limits(snakemake.threads))
            if "torch" in sys.modules:
                sys.modules["torch"].set_num_threads(snakemake.threads)
            main(snakemake)
        except UserError as error:
            say(f"error in rule {snakemake.rule}: {error}")
            sys.exit(1)
        except Exception:
            say(traceback.format_exc())
            sys.exit(1)
