"""One writer at a time: a lock that is released when its holder ends, for whatever reason."""

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adaptive_samplers.errors import UserError
from adaptive_samplers.stage import say

# An NFS server keeps the locks of a node that crashed for about 90 seconds.
PATIENCE = 120.0
POLL = 0.5


class NoLocksError(Exception):
    """The file system has no locks; the message is its own."""


@contextmanager
def only_writer(path: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of the file `path` while the block runs; the lock is on `{path}.lock` next to it.

    It is a POSIX record lock, which NFS propagates to other nodes. The operating system releases it when its holder
    ends, killed or not; the lock file's text about the holder is only for people to read. On a file system without
    locks there is only a warning.

    Raises
    ------
    UserError
        If another process still holds the lock after `patience` seconds.
    """
    place = _place(path)
    descriptor = _acquire(path, place, patience)
    try:
        yield
    finally:
        # Deleted while it is locked: whoever opened it before notices that it is gone and opens a new one.
        place.unlink(missing_ok=True)
        os.close(descriptor)


def holder(path: Path) -> str | None:
    """Who holds the lock of the file `path`, as the holder describes itself; None if nobody does.

    A lock file that a killed process left is deleted.

    Raises
    ------
    NoLocksError
        If there is a lock file, on a file system that cannot tell.
    """
    place = _place(path)
    while True:
        try:
            descriptor = os.open(place, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            if not _locked(descriptor):
                return _note(descriptor)
            # If it is a different file by now, another process may hold that one.
            if _is_in_place(descriptor, place):
                place.unlink()
        finally:
            os.close(descriptor)


def holders(paths: Iterable[Path], patience: float) -> dict[Path, str]:
    """The files whose locks stay held for `patience` seconds, and by whom.

    Raises
    ------
    NoLocksError
        If there are lock files, on a file system that cannot tell.
    """
    deadline = time.monotonic() + patience
    while True:
        held = {path: note for path in paths if (note := holder(path))}
        if not held or time.monotonic() >= deadline:
            return held
        paths = held
        time.sleep(POLL)


def _acquire(path: Path, place: Path, patience: float) -> int:
    deadline, told = time.monotonic() + patience, False
    while True:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locked = _locked(descriptor)
        except NoLocksError as error:
            say(f"{path}: this file system has no locks ({error}); see to it that no other job writes it")
            return descriptor
        if locked and _is_in_place(descriptor, place):
            _sign(descriptor)
            return descriptor
        note = _note(descriptor)
        os.close(descriptor)
        if locked:
            continue
        if time.monotonic() >= deadline:
            raise UserError(
                f"{path} is being written by {note}. Two jobs must not write one output: wait until the other one "
                "has ended, or end it (on SLURM with `scancel`), then run again"
            )
        if not told:
            say(f"{path} is being written by {note}; waiting {patience:.0f} s for it to end")
            told = True
        time.sleep(POLL)


def _place(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _locked(descriptor: int) -> bool:
    """Lock an open file, unless another process holds the lock."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise NoLocksError(error.strerror) from None
        raise
    return True


def _is_in_place(descriptor: int, place: Path) -> bool:
    """Whether the locked file is still the one at its path."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.stat(place))
    return False


def _note(descriptor: int) -> str:
    """What the holder wrote about itself."""
    return os.read(descriptor, 1000).decode(errors="replace").strip() or "another process"


def _sign(descriptor: int) -> None:
    job = os.environ.get("SLURM_JOB_ID")
    words = [f"process {os.getpid()} on {socket.gethostname()}"]
    words += [f"SLURM job {job}"] if job else []
    words.append(f"since {time.strftime('%Y-%m-%d %H:%M:%S')}")
    # On a full disk the lock works without the note.
    with suppress(OSError):
        os.truncate(descriptor, 0)
        os.write(descriptor, (", ".join(words) + "\n").encode())
