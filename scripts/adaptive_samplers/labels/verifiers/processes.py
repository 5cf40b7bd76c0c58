"""Verify many answers in parallel processes. One that hangs or dies does not affect the other answers."""

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import adaptive_samplers
from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.verifiers.registry import Verification

_LOADING_SECONDS = 300.0
_BATCH = 200  # answers sent to a process at once
_LIFETIME = 20_000  # answers after which a process is replaced, because its libraries accumulate memory
_AHEAD = 3  # batches read ahead, per process


class Task(NamedTuple):
    """An answer to verify, or a ground truth to check."""

    name: str
    ground_truth: str | None  # JSON
    text: str = ""
    kind: str = "verify"  # or check, or final_answer


class Outcome(NamedTuple):
    """The result of a task: a score and a detail, or an error.

    A check that passed has neither. A final answer is the detail, None if the text gives none.
    """

    score: float | None
    detail: str | None
    error: str | None


class _Gone(Exception):
    """The process has died or was killed."""


class _Worker:
    """A verifying process and the conversation with it."""

    def __init__(self, verification: Verification) -> None:
        self.verification = verification
        self.done = 0
        self._loaded: set[str] = set()
        self._unread = b""
        root = str(Path(adaptive_samplers.__file__).parent.parent)
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "adaptive_samplers.labels.verifiers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._replies, selectors.EVENT_READ)
        try:
            self._send(asdict(verification))
            first = self._receive(_LOADING_SECONDS)
        except _Gone as gone:
            self.close()
            raise UserError(
                f"a verifying process did not start: it {gone}; its messages are above. If a verifier of "
                "labels.correctness.verifiers ran out of memory while loading, raise labels.correctness.memory_mb"
            ) from gone
        if "refused" in first:
            self.close()
            raise UserError(first["refused"])

    def outcomes(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """The outcomes of some tasks, in order. If the process ends, that task's failure is the last outcome."""
        try:
            self._send([(task.kind, task.name, task.text, task.ground_truth) for task in tasks])
        except _Gone as gone:
            yield Outcome(None, None, f"the verifying process {gone}")
            return
        for task in tasks:
            limit = self.verification.seconds(task.name)
            try:
                if task.name not in self._loaded:
                    self._receive(_LOADING_SECONDS)
                    self._loaded.add(task.name)
                reply = self._receive(limit)
            except _Gone as gone:
                yield Outcome(None, None, f"the verifying process {gone}")
                return
            self.done += 1
            yield Outcome(*reply)

    def _send(self, content: Any) -> None:
        try:
            self._requests.write(json.dumps(content).encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError:
            raise _Gone(self._end()) from None

    def _receive(self, seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not self._selector.select(left):
                self.kill()
                raise _Gone(f"was killed after {seconds:g} s (labels.correctness.timeout)")
            part = os.read(self._replies.fileno(), 2**16)
            if not part:
                raise _Gone(self._end())
            self._unread += part
        line, self._unread = self._unread.split(b"\n", 1)
        return json.loads(line)

    def _end(self) -> str:
        status = self._process.wait()
        return f"ended by signal {-status}" if status < 0 else f"ended with status {status}"

    def kill(self) -> None:
        """Kill the process and everything it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Kill the process and close its pipes."""
        self.kill()
        self._selector.close()
        with suppress(BrokenPipeError):
            self._requests.close()
        self._replies.close()


@dataclass
class _Slot:
    """A thread's process, which is replaced when it has verified enough answers or is gone."""

    worker: _Worker | None = None


class VerifierPool:
    """A pool of verifying processes, which end with its context.

    If a verifier exceeds its time limit or its process dies, that becomes the task's error. The process is replaced,
    and other tasks are not affected. Verifiers run in the main thread of their own process, so it does not matter
    which thread asks or whether they can be interrupted.

    Parameters
    ----------
    verification : the user's own verifiers, and the limits of all.
    processes : number of processes.

    Raises
    ------
    UserError
        From any method, if a file of the user's verifiers cannot be loaded.
    """

    def __init__(self, verification: Verification, processes: int) -> None:
        self.verification = verification
        self.processes = processes
        self._threads = ThreadPoolExecutor(processes)
        self._place = threading.local()
        self._slots: list[_Slot] = []

    def outcomes(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """The outcome of every task, in order. Tasks are consumed a little ahead."""
        waiting: deque[Future[list[Outcome]]] = deque()
        batch: list[Task] = []
        for task in tasks:
            batch.append(task)
            if len(batch) == _BATCH:
                waiting.append(self._threads.submit(self._run, batch))
                batch = []
            if len(waiting) > _AHEAD * self.processes:
                yield from waiting.popleft().result()
        if batch:
            waiting.append(self._threads.submit(self._run, batch))
        while waiting:
            yield from waiting.popleft().result()

    def _run(self, batch: list[Task]) -> list[Outcome]:
        slot = self._slot()
        outcomes: list[Outcome] = []
        while len(outcomes) < len(batch):
            if slot.worker is None:
                slot.worker = _Worker(self.verification)
            worker = slot.worker
            remaining = batch[len(outcomes) :]
            before = worker.done
            new = list(worker.outcomes(remaining))
            outcomes += new
            is_gone = worker.done - before < len(remaining)
            if is_gone or worker.done >= _LIFETIME:
                worker.close()
                slot.worker = None
        return outcomes

    def _slot(self) -> _Slot:
        if not hasattr(self._place, "slot"):
            self._place.slot = _Slot()
            self._slots.append(self._place.slot)
        return self._place.slot

    def __enter__(self) -> "VerifierPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            # Running tasks are no longer needed. Killing the processes ends the threads that wait for them.
            for slot in self._slots:
                if slot.worker is not None:
                    slot.worker.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for slot in self._slots:
            if slot.worker is not None:
                slot.worker.close()
