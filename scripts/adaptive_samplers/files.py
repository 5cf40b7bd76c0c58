"""Writing files so that half-written output never looks complete."""

import errno
import json
import os
import re
import shutil
import socket
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from adaptive_samplers.errors import UserError

CHECKSUM = "checksum"
_HOST = re.sub(r"[^\w-]", "-", socket.gethostname().partition(".")[0])[:32]
_LONG_AGO = 24 * 3600.0
LINE_SEPARATORS = re.compile("[\x85\u2028\u2029]")


@contextmanager
def atomic_output(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path next to `path`; move it into place only if the block ends without an error.

    The path may become a file or a folder. It is flushed to disk before the rename, so that a crash of the machine
    leaves either the old or all of the new content; for a folder, in rare cases, neither. Leftovers of killed processes
    for the same path are deleted.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _delete_left(path)
    # The suffix stays last, because writers choose their format by it.
    temporary = path.with_name(f".{path.name}.{_HOST}.{os.getpid()}{path.suffix}")
    try:
        with full_disk_explained(path):
            yield temporary
        for written in [temporary, *temporary.rglob("*")]:
            if not written.is_dir():
                with open(written, "rb") as file:
                    os.fsync(file.fileno())
        if temporary.is_dir() and path.is_dir():
            # A folder cannot be replaced in one step, and a half-deleted one must not be at `path`.
            old = path.with_name(f".{path.name}.{_HOST}.{os.getpid()}.old")
            os.replace(path, old)
            os.replace(temporary, path)
            _delete(old)
        else:
            os.replace(temporary, path)
    finally:
        _delete(temporary)


@contextmanager
def full_disk_explained(path: Path) -> Iterator[None]:
    """Turn the error of a full disk or quota while writing `path` into one that says what to do.

    Libraries that write for us raise their own exceptions, so the message is checked too.

    Raises
    ------
    UserError
        If that was the error in the block.
    """
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None)
        if number not in (errno.ENOSPC, errno.EDQUOT) and "No space left on device" not in str(error):
            raise
        cause = "the quota is used up" if number == errno.EDQUOT else "no space is left on the disk"
        raise UserError(
            f"{path} could not be written: {cause}. Free some (`df -h {path.parent}`) and run again; what was "
            "finished before is kept"
        ) from error


def _delete_left(path: Path) -> None:
    """Delete unfinished output next to `path` if the process that wrote it has ended."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.([\w-]+)\.(\d+)(?:{re.escape(path.suffix)}|\.old)")
    for beside in path.parent.iterdir():
        if (found := pattern.fullmatch(beside.name)) and _has_ended(found[1], int(found[2]), beside):
            _delete(beside)


def _has_ended(host: str, process: int, written: Path) -> bool:
    if host != _HOST:
        # The process cannot be checked, but is unlikely to have been idle for so long.
        try:
            newest = max(part.lstat().st_mtime for part in [written, *written.rglob("*")])
        except FileNotFoundError:
            return False
        return time.time() - newest > _LONG_AGO
    if process == os.getpid():
        return True  # another process with the same number, as in containers
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return _is_zombie(process)


def _is_zombie(process: int) -> bool:
    """Whether a process has ended and nobody has taken note yet, as for a moment after a kill; False if unknown."""
    try:
        # After the name, which is in parentheses and may hold any character.
        return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_json(value: Any, path: Path | str) -> None:
    """Write `value` as indented JSON, atomically. A dict gets a last key, `checksum`, which `read_json` takes off."""
    if isinstance(value, dict):
        value = {**value, CHECKSUM: _checksum(value)}
    with atomic_output(path) as temporary:
        # A lone surrogate, which is not a character, becomes its escape in JSON.
        temporary.write_text(_as_json(value), encoding="utf-8", errors="backslashreplace")


def read_json(path: Path | str) -> dict[str, Any]:
    """Read a dict back that `write_json` wrote.

    Raises
    ------
    UserError
        If the file is missing, is not JSON, or does not hold what was written.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete it and run again") from error
    if not isinstance(value, dict) or value.pop(CHECKSUM, None) != _checksum(value):
        raise UserError(f"{path} was changed after it was written, or damaged; delete it and run again")
    return value


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _checksum(value: dict[str, Any]) -> str:
    return f"{zlib.crc32(_as_json(value).encode('utf-8', errors='surrogatepass')):08x}"


def json_line(value: Any) -> str:
    """`value` as a line of a JSON Lines file, without the characters that some readers take for the end of a line."""
    text = json.dumps(value, ensure_ascii=False)
    return LINE_SEPARATORS.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def write_json_rows(rows: Iterable[Any], file: TextIO, as_list: bool) -> int:
    """Write rows one by one, as JSON lines or as one JSON list with a line for each; how many there were."""
    count = 0
    for count, row in enumerate(rows, start=1):
        line = json_line(row)
        file.write(("[\n" if count == 1 else ",\n") + line.removesuffix("\n") if as_list else line)
    if as_list:
        file.write("\n]\n" if count else "[\n\n]\n")
    return count
