"""A job's own server against another user of the machine who wants its port: before it is ready, and after it died."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests

from adaptive_samplers.errors import UserError
from adaptive_samplers.serving.kinds import SGLANG
from adaptive_samplers.serving.server import OwnServer, bind_twice, is_healthy, server_environment
from support import processes_with, wait_until

# What SGLang and uvicorn have that the launcher uses; the model loads until there is a file `go`.
IMITATED = {
    "sglang/__init__.py": "",
    "sglang/srt/__init__.py": "",
    "sglang/srt/utils.py": "def kill_process_tree(pid, include_parent): pass",
    "sglang/srt/server_args.py": """
import argparse
def prepare_server_args(arguments):
    parser = argparse.ArgumentParser()
    for name in ("--host", "--port", "--model-path"): parser.add_argument(name)
    return parser.parse_args(arguments)
""",
    "sglang/launch_server.py": """
import os, time, uvicorn
def run_server(arguments):
    while not os.path.exists(arguments.model_path + "/go"): time.sleep(0.02)
    uvicorn.key = arguments.api_key
    config = uvicorn.Config("127.0.0.1", int(arguments.port))
    several = os.path.exists(arguments.model_path + "/several")
    uvicorn.Server(config).run([config.bind_socket()] if several else None)
""",
    "uvicorn.py": """
import asyncio, socket
from http.server import BaseHTTPRequestHandler, HTTPServer
class Config:
    def __init__(self, host, port): self.host, self.port = host, port
    def bind_socket(self):
        bound = socket.socket()
        bound.bind((self.host, self.port))
        return bound
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.headers["Authorization"] == f"Bearer {key}" else 401)
        self.end_headers()
        self.wfile.write(b"real")
class Server:
    def __init__(self, config): self.config = config
    def run(self, sockets=None): asyncio.run(self.serve(sockets))
    async def serve(self, sockets=None):
        bound = sockets[0] if sockets else self.config.bind_socket()
        bound.listen()
        server = HTTPServer(bound.getsockname(), Handler, bind_and_activate=False)
        server.socket = bound
        server.serve_forever(0.02)
""",
}
PROBE = SGLANG.probe("generate")
# Takes the port by whatever way there is, answers everything with success, and writes down what it is told.
IMPOSTOR = """
import socket, sys, time
port, heard = int(sys.argv[1]), sys.argv[2]
ways = [(host, family, options) for host, family in (("127.0.0.1", 2), ("", 2), ("::", 10))
        for options in ((), (socket.SO_REUSEADDR,), (socket.SO_REUSEADDR, socket.SO_REUSEPORT))]
for host, family, options in ways[: 9 if sys.argv[3] == "other" else 2]:
    taken = socket.socket(family)
    for option in options: taken.setsockopt(socket.SOL_SOCKET, option, 1)
    try:
        taken.bind((host, port)); taken.listen()
    except OSError:
        continue
    print("taken", flush=True)
    while True:
        peer, _ = taken.accept()
        with peer, open(heard, "ab") as file:
            file.write(peer.recv(9999))
            peer.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
print("refused", flush=True)
"""


@pytest.fixture
def own_server(tmp_path, monkeypatch):
    for name, content in IMITATED.items():
        (tmp_path / "lib" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lib" / name).write_text(content)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    server = OwnServer(
        SGLANG, "generate", sys.executable, ["--model-path", str(tmp_path)], "cpu", tmp_path / "log", start_timeout=60
    )
    yield server
    server.stop()


class Impostor:
    """Another user, where these tests run as root; else this one, by ways in which one's own programs do not share."""

    def __init__(self, server: OwnServer, heard: Path) -> None:
        port = server.url.rsplit(":", 1)[1]
        other = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        python = "/usr/bin/python3" if other else sys.executable  # one that any user can run
        self.process = subprocess.Popen(
            [python, "-c", IMPOSTOR, port, str(heard), "other" if other else "same"],
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            **other,
        )
        self.said = self.process.stdout.readline().strip()

    def __enter__(self) -> "Impostor":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.communicate()


def test_nobody_can_stand_in_for_a_server_that_loads_or_died(own_server, tmp_path):
    starting = threading.Thread(target=own_server.start)
    starting.start()
    mark = f"--model-path\0{tmp_path}"  # of the server's command line
    wait_until(lambda: processes_with(mark), 10)
    with Impostor(own_server, tmp_path / "heard") as impostor:
        assert impostor.said == "refused"
        (tmp_path / "go").touch()
        starting.join(30)
        assert requests.get(own_server.url, headers=own_server.headers, timeout=10).text == "real"
    assert own_server.is_alive()
    os.killpg(os.getpgid(processes_with(mark)[0]), signal.SIGKILL)
    wait_until(lambda: not processes_with(mark), 10)
    with Impostor(own_server, tmp_path / "heard") as impostor:
        assert impostor.said == "refused"
        # Refused at once, rather than kept waiting for somebody to listen.
        assert not is_healthy(own_server.url, PROBE, own_server.headers, timeout=10)
    before = own_server.url, dict(own_server.headers)
    assert own_server.revive() and own_server.is_alive()
    assert own_server.headers != before[1]
    own_server.stop()
    # What it kept others from: now they can.
    with Impostor(own_server, tmp_path / "heard") as impostor:
        assert impostor.said == "taken"


def test_a_server_of_several_processes_takes_the_socket_too(own_server, tmp_path):
    (tmp_path / "go").touch()
    (tmp_path / "several").touch()
    own_server.start()
    assert requests.get(own_server.url, headers=own_server.headers, timeout=10).text == "real"


def test_a_server_that_ends_while_it_loads_lets_go_of_its_port(own_server, tmp_path):
    own_server.arguments = ["--no-such-argument"]
    with pytest.raises(UserError, match="no-such-argument"):
        own_server.start()
    own_server.stop()
    with Impostor(own_server, tmp_path / "heard") as impostor:
        assert impostor.said == "taken"


def test_no_proxy_stands_between_a_server_and_itself(monkeypatch):
    monkeypatch.setenv("no_proxy", "example.org")
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:3128")
    environment = server_environment(SGLANG, "cpu")
    monkeypatch.setenv("no_proxy", environment["no_proxy"])
    assert requests.utils.should_bypass_proxies("http://127.0.0.1:5000/x", None)
    assert requests.utils.should_bypass_proxies("http://example.org/", None)
    assert environment["NO_PROXY"].endswith("127.0.0.1,localhost")


def test_the_port_is_held_by_a_socket_that_does_not_listen():
    listening, holder = bind_twice()
    with listening, holder:
        assert listening.getsockname() == holder.getsockname()
        listening.listen()
        url = "http://{}:{}".format(*holder.getsockname())
        listening.close()
        assert is_healthy(url, PROBE, {}, timeout=10) is False
