"""Servers as a pool sees them: one that this job owns, and an external one."""

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from adaptive_samplers.errors import UserError
from adaptive_samplers.models.fetch import model_hash
from adaptive_samplers.serving.kinds import Probe, ServerKind, Task
from adaptive_samplers.serving.launch import KEY_VARIABLE
from adaptive_samplers.serving.request import FOLDERS_VARIABLE
from adaptive_samplers.stage import say

LOOPBACK = "127.0.0.1"
ENDPOINT_KEY_VARIABLE = "ADAPTIVE_SAMPLERS_ENDPOINT_KEY"
STARTS_WITHOUT_AN_ANSWER = 4
# What libraries in a server write when it ends, after what it has to say.
NOISE = re.compile(r"nanobind:| - leaked | - \.\.\. skipped")
LIBRARY = Path(__file__).resolve().parents[2]  # what makes adaptive_samplers importable


def mark_of(task: Task, folder: Path) -> str:
    """What a server says of itself: it can import the processor, and serves this model for this task."""
    return f"adaptive_samplers-1-{task}-{model_hash(folder)[:16]}"


def server_environment(kind: ServerKind, device: str) -> dict[str, str]:
    """The environment of a server: it finds our processor, queries no hub, and does not compete for cores."""
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(LIBRARY), os.environ.get("PYTHONPATH")]))
    environment["HF_HUB_OFFLINE"] = "1"
    # All folders: only who has the key can name a sampler.
    environment.setdefault(FOLDERS_VARIABLE, os.sep)
    # A server checks its own readiness over HTTP, with its key: a proxy is for outside addresses.
    for name in ("no_proxy", "NO_PROXY"):
        environment[name] = ",".join(filter(None, [os.environ.get(name), LOOPBACK, "localhost"]))
    return environment | kind.environment(device)


def is_healthy(url: str, probe: Probe, headers: dict[str, str], timeout: float) -> bool:
    """Whether a server can do its work."""
    response = _ask(url, probe, headers, timeout)
    return response is not None and response.ok


def _ask(url: str, probe: Probe, headers: dict[str, str], timeout: float) -> requests.Response | None:
    """The answer, or None if there is none. Proxies are bypassed."""
    method = "GET" if probe.body is None else "POST"
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.request(method, url + probe.path, json=probe.body, headers=headers, timeout=timeout)
        except requests.RequestException:
            return None


def bind_twice() -> tuple[socket.socket, socket.socket]:
    """Two sockets on a free port of the loopback interface: one to listen on, and one that holds the port meanwhile.

    Linux lets only sockets of the same user share a port, and only if all of them agree. So as long as one of the two
    is open, no other user can take the port, neither while a server loads nor after it has died.
    """
    sockets: list[socket.socket] = []
    port = 0
    try:
        for _ in range(2):
            bound = socket.socket()
            sockets.append(bound)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind((LOOPBACK, port))
            port = bound.getsockname()[1]
    except OSError:
        for bound in sockets:
            bound.close()
        raise
    return sockets[0], sockets[1]


@dataclass
class OwnServer:
    """A server on this machine's loopback, behind a random key, that ends with this process.

    Nobody else on the machine can impersonate it to receive the key and the requests or to give other answers: it
    listens on a socket that was bound before it started, and this process holds the port until the end.

    Attributes
    ----------
    kind : ServerKind
    task : Task
    python : str
        The interpreter that has its packages.
    arguments : list of str
        The server's, without host, port and key.
    device : str
    log : Path
        Where its output goes, with the key redacted.
    start_timeout : float
        Seconds that loading may take.
    """

    kind: ServerKind
    task: Task
    python: str
    arguments: list[str]
    device: str
    log: Path
    start_timeout: float
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    _process: subprocess.Popen | None = None
    _holder: socket.socket | None = field(default=None, repr=False)
    _unanswered_starts: int = 0
    _last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=25), repr=False)

    def start(self) -> None:
        """Start it and wait until it can generate.

        Raises
        ------
        UserError
            If it ends, or is not ready in time; with the end of its log.
        """
        self._unanswered_starts += 1
        key = secrets.token_urlsafe(32)
        listening, self._holder = bind_twice()
        port, number = listening.getsockname()[1], listening.fileno()
        self.url, self.headers = f"http://{LOOPBACK}:{port}", {"Authorization": f"Bearer {key}"}
        command = [self.python, "-m", "adaptive_samplers.serving.launch", self.kind.name]
        command += ["--end-with", str(os.getpid()), "--socket", str(number)]
        with listening:
            self._process = subprocess.Popen(
                [*command, *self.arguments, "--host", LOOPBACK, "--port", str(port)],
                env=server_environment(self.kind, self.device) | {KEY_VARIABLE: key},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[number],
            )
        reader = threading.Thread(target=self._keep_log, args=(self._process.stdout, key), daemon=True)
        reader.start()
        started = time.monotonic()
        say(f"starting a server of {self.kind.title}; its log: {self.log}")
        while not self._is_healthy(timeout=20):
            if self._process.poll() is not None:
                reader.join(timeout=5)
                raise UserError(f"the {self.kind.title} server ended while it started. {self._end_of_log()}")
            if time.monotonic() - started > self.start_timeout:
                self.stop()
                raise UserError(
                    f"the {self.kind.title} server was not ready after {self.start_timeout:g} seconds; raise "
                    f"start_timeout if it needs longer to load. {self._end_of_log()}"
                )
            time.sleep(0.5)
        say(f"the server is ready after {time.monotonic() - started:.0f} seconds")

    def _keep_log(self, stream: Any, key: str) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "a", encoding="utf-8") as log, stream:
            for line in stream:
                text = line.decode(errors="replace").replace(key, "[key]")
                if not NOISE.match(text):
                    self._last_lines.append(text)
                log.write(text)
                log.flush()

    def _end_of_log(self) -> str:
        return f"The end of its log, {self.log}:\n{''.join(self._last_lines)}"

    def _is_healthy(self, timeout: float) -> bool:
        return is_healthy(self.url, self.kind.probe(self.task), self.headers, timeout)

    def is_alive(self) -> bool:
        """Whether it runs and answers; a hanging server does not."""
        running = self._process is not None and self._process.poll() is None
        return running and self._is_healthy(timeout=30)

    def revive(self) -> bool:
        """Restart it unless it is healthy.

        Raises
        ------
        UserError
            If it died several times without answering anything.
        """
        if self.is_alive():
            return True
        if self._unanswered_starts >= STARTS_WITHOUT_AN_ANSWER:
            raise UserError(
                f"the {self.kind.title} server died {self._unanswered_starts} times without answering a request. "
                f"{self._end_of_log()}"
            )
        status = self._process.poll() if self._process else None
        say("the server hangs; it is started anew" if status is None else f"the server ended with status {status}")
        self.stop()
        self.start()
        return True

    def succeeded(self) -> None:
        """It answered."""
        self._unanswered_starts = 0

    def stop(self) -> None:
        """End it with all of its processes, and release its port."""
        if self._process is not None:
            # It has nothing to save, and a kill leaves none of its processes behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        if self._holder is not None:
            self._holder.close()
            self._holder = None


@dataclass
class OtherServer:
    """An external server, started by `python -m adaptive_samplers.serving`."""

    kind: ServerKind
    task: Task
    url: str
    mark: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)

    def is_alive(self) -> bool:
        """Whether it answers."""
        return is_healthy(self.url, self.kind.probe(self.task), self.headers, timeout=30)

    def revive(self) -> bool:
        """Whether it is up, with the required model and processor.

        Raises
        ------
        UserError
            If it serves another model, does not know our processor, or refuses the key.
        """
        response = _ask(self.url, Probe(self.kind.mark_path), self.headers, timeout=10)
        if response is None:
            return False
        if response.status_code in (401, 403):
            raise UserError(f"{self.url}: the server refuses the key; set {ENDPOINT_KEY_VARIABLE} to the server's")
        if not response.ok:
            return False
        try:
            found = self.kind.mark_in(response.json())
        except (KeyError, IndexError, TypeError, ValueError):
            found = None
        if found != self.mark:
            ours = str(found).startswith("adaptive_samplers-")
            what = "holds another model, or for another purpose" if ours else "cannot run our processor"
            raise UserError(
                f"{self.url}: this server {what} (it calls its weights '{found}', expected '{self.mark}'); start it "
                f"with `python -m adaptive_samplers.serving MODEL_FOLDER --engine {self.kind.name} --port PORT`, on "
                "the same model folder"
            )
        return self.is_alive()

    def succeeded(self) -> None:
        """Does nothing."""


def check_has_package(kind: ServerKind, python: str) -> None:
    """Raise UserError if an interpreter does not have a server's package."""
    command = [
        python,
        "-c",
        f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{kind.package}') is None)",
    ]
    try:
        absent = subprocess.run(command, capture_output=True, check=False).returncode != 0
    except OSError as error:
        raise UserError(f"{kind.name}.python: {python} cannot be run ({error.strerror})") from error
    if absent:
        where = "the job's own" if python == sys.executable else f"{kind.name}.python's"
        raise UserError(
            f"{python}, {where} interpreter, has no {kind.title}; install it there (docs/serving.md), or name the "
            f"interpreter of an environment that has it in {kind.name}.python"
        )
