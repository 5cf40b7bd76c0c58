"""What every rule's script has in common: a log, threads, and readable errors."""

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
    """Writes to the terminal and to the rule's log; it is not a terminal itself, so progress is printed in lines."""

    def __init__(self, *streams: TextIO) -> None:
        self.streams = streams

    def write(self, text: str) -> int:
        # Output of a server or an answer may contain characters that cannot be encoded.
        text = text.encode("utf-8", "backslashreplace").decode()
        for stream in self.streams:
            # On a full disk the log loses output; the terminal, which is written first, still gets it.
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
    """Where a copy of this library other than the running one is installed; None if there is none (or a link to it)."""
    try:
        place = Path(str(metadata.distribution("adaptive-samplers").locate_file("adaptive_samplers")))
    except metadata.PackageNotFoundError:
        return None
    # Numba's compiled files stay in the folder when the library is uninstalled.
    is_copy = (place / "__init__.py").is_file() and not place.samefile(Path(__file__).parent)
    return place if is_copy else None


def settings_of(snakemake: Any) -> Config:
    """The part of the config that a rule's stage may read: what its output depends on, and what affects no output."""
    return typed_config(_merged(snakemake.params.settings, snakemake.params.unrelated))


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Two slices of one config together."""
    both = {key: _merged(first[key], second[key]) for key in first if isinstance(second.get(key), Mapping)}
    return {**first, **second, **both}


def _leave_gpus_alone(resources: Any) -> None:
    """Hide all GPUs from a SLURM job that requested none: a node that does not isolate them shows those of others."""
    if "SLURM_JOB_ID" in os.environ and not resources.get("gpu"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def run_stage(main: Callable[[Any], None], snakemake: Any, patience: float | None = None) -> None:
    """Run a rule's `main(snakemake)` with its threads and its log, which only one job at a time may write.

    Waits up to `patience` seconds for another job with this log; None means `locks.PATIENCE`.

    Output to stderr goes to the terminal and to the rule's log. A `UserError` ends the job with its message only; any
    other exception also puts its traceback in the log.
    """
    _leave_gpus_alone(snakemake.resources)
    # Imported here: code that only logs may run in a server's environment, which lacks this.
    from threadpoolctl import threadpool_limits

    # It prints its own message.
    from adaptive_samplers.locks import PATIENCE, only_writer

    log = Path(snakemake.log[0])
    with ExitStack() as stack:
        try:
            # A restarted Snakemake recognizes a job that is still alive by this lock.
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
