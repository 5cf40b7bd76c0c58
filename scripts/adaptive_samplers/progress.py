"""Progress bars with rate and remaining time that stay readable in a log file."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LOG_LINES = 5.0


class _LineWriter:
    """Turns the carriage returns of a progress bar into lines, for streams that are not a terminal."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            self.stream.write(line + "\n")

    def flush(self) -> None:
        self.stream.flush()


def progress(
    iterable: Iterable | None = None,
    *,
    total: int | None = None,
    description: str,
    unit: str = "it",
    initial: int = 0,
) -> tqdm:
    """A progress bar over `iterable`, or one that is advanced by hand with `update`.

    On a terminal it redraws one line; elsewhere (a log file, a cluster job) it writes a line every few seconds.
    """
    terminal = sys.stderr.isatty()
    return tqdm(
        iterable,
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        smoothing=0.1,
        dynamic_ncols=terminal,
        ncols=None if terminal else 100,
        file=sys.stderr if terminal else _LineWriter(sys.stderr),
        mininterval=0.2 if terminal else SECONDS_BETWEEN_LOG_LINES,
        maxinterval=10.0 if terminal else SECONDS_BETWEEN_LOG_LINES,
    )
