"""One writer at a time: a lock that ends with the process that holds it, however that ends."""

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adaptive_samplers.errors import UserError
from adaptive_samplers.stage import say

# An NFS server keeps the locks of a node that crashed for about 90 seconds.
PATIENCE = 120.0
POLL = 0.5


@contextmanager
def only_writer(path: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of the file `path` while the block runs; the lock is on `{path}.lock` beside it.

    It is a POSIX record lock, which NFS passes on to other nodes. The operating system releases it when its holder
    ends, killed or not; what the lock file says about the holder is for people to read and blocks nobody. On a file
    system without locks a warning is all that happens.

    Raises
    ------
    UserError
        If another process still holds the lock after `patience` seconds.
    """
    place = path.with_name(f"{path.name}.lock")
    descriptor = _acquire(path, place, patience)
    try:
        yield
    finally:
        # Deleted while it is locked: whoever opened it before notices that it is gone and opens a new one.
        place.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path, place: Path, patience: float) -> int:
    deadline, told = time.monotonic() + patience, False
    while True:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                say(f"{path}: this file system has no locks ({error.strerror}); see to it that no other job writes it")
                return descriptor
            holder = os.read(descriptor, 1000).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
        else:
            if _is_in_place(descriptor, place):
                _sign(descriptor)
                return descriptor
            os.close(descriptor)
            continue
        if time.monotonic() >= deadline:
            raise UserError(
                f"{path} is being written by {holder}. Two jobs must not write one output: wait until the other one "
                "has ended, or end it (on SLURM with `scancel`), then run again"
            )
        if not told:
            say(f"{path} is being written by {holder}; waiting {patience:.0f} s for it to end")
            told = True
        time.sleep(POLL)


def _is_in_place(descriptor: int, place: Path) -> bool:
    """Whether the file that was locked is still the one under its name."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.stat(place))
    return False


def _sign(descriptor: int) -> None:
    job = os.environ.get("SLURM_JOB_ID")
    words = [f"process {os.getpid()} on {socket.gethostname()}"]
    words += [f"SLURM job {job}"] if job else []
    words.append(f"since {time.strftime('%Y-%m-%d %H:%M:%S')}")
    # On a full disk the lock holds without the note.
    with suppress(OSError):
        os.truncate(descriptor, 0)
        os.write(descriptor, (", ".join(words) + "\n").encode())
