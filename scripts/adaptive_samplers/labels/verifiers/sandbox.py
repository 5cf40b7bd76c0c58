"""A sandbox for untrusted code: processes without network, with only Python's files and limits on all resources.

Linux only. The sandbox uses namespaces and a system call filter, which need no installation and no root. If the system
forbids ordinary users to create namespaces, `check_sandbox` says so and nothing is executed. The code sees the Python
installation, read-only, and an empty folder in memory that is deleted afterwards. It sees no other process, no network,
no keys and nothing of this process's environment. When its time is over or its first process ends, the kernel kills
every process that it started. Once the code runs, whatever it does to itself or its sandbox ends in a verdict;
`SandboxError` is for failures before that.
"""

import functools
import json
import os
import platform
import re
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.verifiers import sandbox_child
from adaptive_samplers.labels.verifiers.sandbox_filter import sandbox_filter

_START_SECONDS = 60.0
# Processes of the sandbox itself: the launcher and process 1.
_OWN_PROCESSES = 2
_MEGABYTE = 2**20
_LONGEST_ERROR = 300
# In bytes. Parsed into Python objects, a message may take thirty times as much.
LONGEST_MESSAGE = 4 * _MEGABYTE


@dataclass(frozen=True)
class Limits:
    """Limits for the code of one answer.

    Attributes
    ----------
    seconds : total wall-clock time, and processor time of each process.
    memory_mb : address space of each process; no other memory is available.
    processes : processes and threads at once.
    disk_mb : size of a file, of all files together, and of what is printed.
    """

    seconds: float = 10.0
    memory_mb: int = 512
    processes: int = 8
    disk_mb: int = 16


class SandboxError(RuntimeError):
    """The sandbox itself failed, which says nothing about the code."""


class TimeLimit(Exception):
    """The code ran out of time."""


@dataclass(frozen=True)
class Finished:
    """How a program ended: its exit status (128 plus the signal's number if killed), output and exception."""

    status: int
    output: str
    error: str | None


@functools.cache
def check_sandbox() -> None:
    """Build a sandbox once, to check that the system allows it.

    Raises
    ------
    UserError
        If the system is not Linux, or forbids ordinary users to create namespaces.
    """
    if not sys.platform.startswith("linux"):
        raise UserError(
            f"the verifier 'code' runs answers in a sandbox made of Linux's namespaces, and this is "
            f"{platform.system()}; verify on a Linux machine, or take the prompts with this verifier out"
        )
    try:
        finished = run_program("print('ready')", "", Limits(), time.monotonic() + _START_SECONDS)
    except SandboxError as error:
        raise UserError(
            f"the verifier 'code' cannot build its sandbox here ({error}), and answers' code is never run without it. "
            "Ordinary users must be allowed to create user namespaces (`unshare --user --net true` must work; the "
            "settings are user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns); else verify on "
            "another machine, or take the prompts with this verifier out"
        ) from error
    if finished.output != "ready\n":
        raise SandboxError(f"a program that prints one word ended with {finished}")


class _Server:
    """The process that starts sandboxes, and the connection to it. It ends when the connection closes."""

    def __init__(self) -> None:
        try:
            program = sandbox_filter()
        except ValueError as error:
            raise SandboxError(str(error)) from error
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(_START_SECONDS)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-s", sandbox_child.__file__, program.hex()],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "HOME": sandbox_child.WORK, "LANG": "C.UTF-8"}
                # So that the same answer gets the same verdict.
                | {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        weakref.finalize(self, _end, self._control, self._process)

    def start(self, descriptors: list[int]) -> int:
        """Start a sandbox with its channel, output and status descriptors; return its number."""
        return struct.unpack(">I", self._ask(b"start", descriptors))[0]

    def end(self, number: int) -> None:
        """Kill every process of a sandbox, and wait until they are gone."""
        self._ask(struct.pack(">I", number), [])

    def _ask(self, message: bytes, descriptors: list[int]) -> bytes:
        with self._lock:
            try:
                socket.send_fds(self._control, [message], descriptors)
                reply = self._control.recv(16)
            except OSError as error:
                reply, reason = b"", str(error)
            else:
                reason = "it is gone"
        if not reply:
            # The next sandbox gets a new server.
            _server.cache_clear()
            raise SandboxError(f"the process that starts sandboxes does not answer: {reason}")
        return reply


def _end(control: socket.socket, process: subprocess.Popen) -> None:
    control.close()
    process.wait()


@functools.cache
def _server(process: int) -> _Server:
    """The server of this process. A server from before a fork belongs to the parent."""
    return _Server()


class Sandbox:
    """One answer's running code, as a context manager that kills all its processes at the end.

    Parameters
    ----------
    request : `kind` ("program", "tests" or "calls"), `code`, and further fields of the kind (see `sandbox_child`).
    limits : limits for the code.
    deadline : when its time is over, by `time.monotonic()`.

    Raises
    ------
    SandboxError
        If the sandbox cannot be built.
    """

    def __init__(self, request: dict[str, Any], limits: Limits, deadline: float) -> None:
        self.deadline = deadline
        self._channel, channel = socket.socketpair()
        self._output, output = os.pipe()
        self._status, status = os.pipe()
        try:
            self._server = _server(os.getpid())
            with open(os.devnull, "wb") as null:
                printed = output if request["kind"] == "program" else null.fileno()
                self._number = self._server.start([channel.fileno(), printed, status])
        except BaseException:
            self._close_descriptors()
            raise
        finally:
            channel.close()
            os.close(output)
            os.close(status)
        try:
            self._start(request, limits)
        except BaseException:
            self.close()
            raise

    def _start(self, request: dict[str, Any], limits: Limits) -> None:
        numbers = {
            "seconds": limits.seconds,
            "memory_bytes": limits.memory_mb * _MEGABYTE,
            "disk_bytes": limits.disk_mb * _MEGABYTE,
            "counted_processes": limits.processes + _OWN_PROCESSES + _others_that_count(),
        }
        self._channel.settimeout(_START_SECONDS)
        try:
            sandbox_child.send(self._channel, request | {"limits": numbers, "visible": _python_folders()})
            answer = sandbox_child.receive(self._channel)
        except OSError as error:
            raise SandboxError(f"it did not start: {error}") from error
        if answer is None:
            raise SandboxError("it ended before it started")
        if "unavailable" in answer:
            raise SandboxError(answer["unavailable"])

    def send(self, message: Any) -> None:
        """Send a message to the code's harness; does nothing if it has ended. TimeLimit when the time is over."""
        self._channel.settimeout(self._left())
        try:
            sandbox_child.send(self._channel, message)
        except TimeoutError as error:
            raise TimeLimit from error
        except (BrokenPipeError, ConnectionResetError):
            pass

    def receive(self) -> Any:
        """Receive a message from the code's harness; None if it ended. TimeLimit when the time is over.

        The code itself can write to this channel: ValueError if what arrives is not a message, or is longer than
        `LONGEST_MESSAGE`.
        """
        if (header := self._next(4)) is None:
            return None
        (length,) = struct.unpack(">I", header)
        if length > LONGEST_MESSAGE:
            raise ValueError(f"a message of {length} bytes")
        if (payload := self._next(length)) is None:
            return None
        try:
            return json.loads(payload)
        except (RecursionError, MemoryError) as error:
            raise ValueError(f"a message that cannot be read: {type(error).__name__}") from error

    def _next(self, length: int) -> bytes | None:
        """The next `length` bytes; None if the channel ends before. The deadline holds however slowly they arrive."""
        parts = bytearray()
        while len(parts) < length:
            part = self._read(self._channel.fileno(), length - len(parts))
            if not part:
                return None
            parts += part
        return bytes(parts)

    def output(self, limit: int) -> str:
        """All that a program prints until it ends. ValueError if that exceeds `limit` bytes, or TimeLimit."""
        parts = bytearray()
        while part := self._read(self._output):
            parts += part
            if len(parts) > limit:
                raise ValueError(f"it printed more than {limit} bytes")
        return parts.decode("utf-8", "replace")

    def status(self) -> int:
        """Wait for the exit status; that of a killed process if the whole sandbox ended. TimeLimit."""
        written = self._read(self._status)
        # Once the code runs, any end of the sandbox counts as the code's own.
        return written[0] if written else 128 + signal.SIGKILL

    def _read(self, descriptor: int, most: int = 2**16) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            if not selector.select(self._left()):
                raise TimeLimit
        try:
            return os.read(descriptor, min(most, 2**20))
        except ConnectionResetError:
            return b""

    def _left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeLimit
        return left

    def close(self) -> None:
        """Kill every process of the sandbox and wait until the last one is gone."""
        try:
            self._server.end(self._number)
        finally:
            self._close_descriptors()

    def _close_descriptors(self) -> None:
        self._channel.close()
        os.close(self._output)
        os.close(self._status)

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def run_program(code: str, stdin: str, limits: Limits, deadline: float) -> Finished:
    """Run Python code as a program with the given standard input, and wait for its end.

    Raises
    ------
    TimeLimit
        When the deadline has passed, by `time.monotonic()`.
    ValueError
        If it prints more than the limit.
    SandboxError
        If the sandbox cannot be built.
    """
    with Sandbox({"kind": "program", "code": code, "stdin": stdin}, limits, deadline) as sandbox:
        output = sandbox.output(limits.disk_mb * _MEGABYTE)
        status = sandbox.status()
        said = None
        with suppress(ValueError):
            said = sandbox.receive()
    return Finished(status, output, error_in(said))


def error_in(message: Any) -> str | None:
    """The error in a message, shortened; None if there is none. The code may have written anything."""
    if not isinstance(message, dict) or "error" not in message:
        return None
    error = message["error"]
    return error[:_LONGEST_ERROR] if isinstance(error, str) else "the code wrote to the harness"


def _others_that_count() -> int:
    """Tasks outside a sandbox that count towards its process limit: before Linux 5.14, all of the same user's."""
    version = re.match(r"(\d+)\.(\d+)", platform.release())
    if os.geteuid() == 0 or (version and tuple(map(int, version.groups())) >= (5, 14)):
        return 0
    count = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if folder.stat().st_uid == os.geteuid():
                count += len(list((folder / "task").iterdir()))
    return count


@functools.cache
def _python_folders() -> list[str]:
    """Folders of this Python and its loaded libraries, except the system's."""
    real = os.path.realpath(sys.executable)
    folders = {sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.path.dirname(real))}
    folders |= {os.path.realpath(folder) for folder in folders}
    with open("/proc/self/maps") as maps:
        mapped = {line.split(maxsplit=5)[5].strip() for line in maps if len(line.split(maxsplit=5)) == 6}
    folders |= {os.path.dirname(path) for path in mapped if re.search(r"\.so[.\d]*$", path) and os.path.exists(path)}
    kept: list[str] = []
    for folder in sorted(folders):
        inside = [*sandbox_child.SYSTEM, *kept]
        if folder != "/" and not any(folder == other or folder.startswith(other + "/") for other in inside):
            kept.append(folder)
    return kept
