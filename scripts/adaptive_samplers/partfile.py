"""Part files: finished rows of a long stage, which survive any end of the process.

A part file is JSON lines next to the stage's output. Its first line holds a fingerprint of everything a row depends on;
rows with a different fingerprint are never reused. A half-written line left by a kill is cut off. Only one process at
a time can have a part file open: of two jobs that write the same output, one waits for the other and then fails.
"""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from adaptive_samplers.files import full_disk_explained
from adaptive_samplers.locks import PATIENCE, only_writer
from adaptive_samplers.stage import say


class PartFile:
    """Append-only rows for the output `path`, kept in `{path}.part` until `remove` is called.

    Waits up to `patience` seconds for another process that has it open.
    """

    def __init__(self, path: Path | str, fingerprint: str, patience: float = PATIENCE) -> None:
        self.path = Path(f"{path}.part")
        self.patience = patience
        self.header = json.dumps({"fingerprint": fingerprint}) + "\n"

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(only_writer(self.path, self.patience))
            if self.path.exists():
                self._repair()
            new = not self.path.exists()
            self.file = stack.enter_context(open(self.path, "ab", buffering=0))
            if new:
                self._write(self.header)
            self.open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open.close()

    def _repair(self) -> None:
        with open(self.path, "rb+") as file:
            if file.readline().decode(errors="replace") != self.header:
                say(f"{self.path}: rows of another configuration are there; they are not used")
                self.path.unlink()
                return
            end = file.seek(0, os.SEEK_END)
            # Look back for the end of the last whole line.
            while end:
                file.seek(end - 1)
                if file.read(1) == b"\n":
                    break
                end -= 1
            file.truncate(end)

    def append(self, row: dict[str, Any]) -> None:
        """Add a row; once this returns, killing the process does not lose it.

        Raises
        ------
        UserError
            If the disk is full.
        """
        self._write(json.dumps(row) + "\n")

    def _write(self, line: str) -> None:
        left = memoryview(line.encode())
        with full_disk_explained(self.path):
            while left:
                left = left[self.file.write(left) :]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Read the rows back, in the order in which they were added."""
        with open(self.path, "rb") as file:
            next(file)
            for line in file:
                yield json.loads(line)

    def remove(self) -> None:
        """Delete the part file once the output is in place."""
        self.path.unlink()
