"""Part files: finished rows of a long stage, kept through any end of the process.

A part file is JSON lines beside the stage's output. Its first line holds a fingerprint of everything that a row depends
on; rows made under another one are never taken up. A line that a kill left half-written is cut off.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from adaptive_samplers.stage import say


class PartFile:
    """Append-only rows for the output `path`, kept in `{path}.part` until `remove` is called."""

    def __init__(self, path: Path | str, fingerprint: str) -> None:
        self.path = Path(f"{path}.part")
        self.header = json.dumps({"fingerprint": fingerprint}) + "\n"

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._repair()
        new = not self.path.exists()
        self.file = open(self.path, "a")
        if new:
            self.file.write(self.header)
            self.file.flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

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
        """Add a row; once this returns, a kill of the process does not lose it."""
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()

    def rows(self) -> Iterator[dict[str, Any]]:
        """Read the rows back, in the order in which they were added."""
        self.file.flush()
        with open(self.path) as file:
            next(file)
            for line in file:
                yield json.loads(line)

    def remove(self) -> None:
        """Delete the part file, once the output is in place."""
        self.path.unlink()
