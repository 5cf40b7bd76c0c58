"""A job's own server against another user of the machine who wants its port: before it is ready, and after it died."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests

from adaptive_samplers.errors import UserError
from adaptive_samplers.serving import __main__ as main_module
from adaptive_samplers.serving import launch
from adaptive_samplers.serving.gate import Gate
from adaptive_samplers.serving.kinds import SERVERS, SGLANG, VLLM, Served
from adaptive_samplers.serving.request import FOLDERS_VARIABLE
from adaptive_samplers.serving.server import (
    ENDPOINT_KEY_VARIABLE,
    OwnServer,
    bind_twice,
    is_healthy,
    mark_of,
    server_environment,
)
from support import processes_with, wait_until

# What SGLang, uvicorn and vLLM have that the launcher uses; the model loads until there is a file `go`.
IMITATED = {
    "vllm/__init__.py": "",
    "vllm/entrypoints/__init__.py": "",
    "vllm/entrypoints/launchers/__init__.py": "",
    "vllm/entrypoints/launchers/launcher.py": """
import socket
def create_server_socket(address, *, reuse_port):
    bound = socket.socket()
    bound.bind(address)
    return bound
""",
    "vllm/entrypoints/launchers/api_server/__init__.py": "",
    "vllm/entrypoints/launchers/api_server/entry.py": """
import argparse, asyncio, importlib, os, time
from http.server import BaseHTTPRequestHandler, HTTPServer
from .. import launcher
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"real"})
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
        asyncio.run(gate({"type": "http", "headers": headers}, None, self.send))
    do_POST = do_GET
    async def send(self, message):
        if message["type"] == "http.response.start":
            self.send_response(message["status"])
            self.end_headers()
        else:
            self.wfile.write(message["body"])
def main():
    global gate
    parser = argparse.ArgumentParser()
    for name in ("--host", "--port", "--model", "--middleware"): parser.add_argument(name)
    arguments = parser.parse_args()
    bound = launcher.create_server_socket((arguments.host, int(arguments.port)), reuse_port=False)
    while not os.path.exists(arguments.model + "/go"): time.sleep(0.02)
    module, name = arguments.middleware.rsplit(".", 1)
    gate = getattr(importlib.import_module(module), name)(app)
    bound.listen()
    server = HTTPServer(bound.getsockname(), Handler, bind_and_activate=False)
    server.socket = bound
    server.serve_forever(0.02)
""",
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
# The argument that names the model.
MODEL = {"sglang": "--model-path", "vllm": "--model"}
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


@pytest.fixture(params=SERVERS)
def own_server(request, tmp_path, monkeypatch):
    for name, content in IMITATED.items():
        (tmp_path / "lib" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lib" / name).write_text(content)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    kind = SERVERS[request.param]
    arguments = [MODEL[kind.name], str(tmp_path)]
    server = OwnServer(kind, "generate", sys.executable, arguments, "cpu", tmp_path / "log", start_timeout=60)
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
    mark = f"{MODEL[own_server.kind.name]}\0{tmp_path}"  # of the server's command line
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
        assert not is_healthy(own_server.url, own_server.kind.probe("generate"), own_server.headers, timeout=10)
    before = own_server.url, dict(own_server.headers)
    assert own_server.revive() and own_server.is_alive()
    assert own_server.headers != before[1]
    own_server.stop()
    # What it kept others from: now they can.
    with Impostor(own_server, tmp_path / "heard") as impostor:
        assert impostor.said == "taken"


@pytest.mark.parametrize("own_server", ["sglang"], indirect=True)
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


@pytest.mark.parametrize("own_server", ["vllm"], indirect=True)
def test_every_path_needs_the_key(own_server, tmp_path):
    (tmp_path / "go").touch()
    own_server.start()
    for path in ("/v1/completions", "/health", "/invocations"):
        for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": own_server.headers["Authorization"][:-1]}):
            assert requests.post(own_server.url + path, json={}, headers=headers, timeout=10).status_code == 401
        assert requests.post(own_server.url + path, json={}, headers=own_server.headers, timeout=10).text == "real"


def told(gate: Gate, scope: dict) -> list[dict]:
    """What is sent to whoever asks."""
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(gate(scope, None, send))
    return sent


def test_the_gate_lets_only_the_key_in(monkeypatch):
    passed = []

    async def app(scope, receive, send):
        passed.append(scope["type"])

    gate, right = Gate(app), (b"authorization", b"Bearer right")
    assert told(gate, {"type": "http", "headers": [right]})[0]["status"] == 401  # before there is a key
    monkeypatch.setattr(Gate, "key", "right")
    refused = [[], [(b"authorization", b"right")], [right, right], [(b"x-authorization", b"Bearer right")]]
    for headers in refused:
        assert told(gate, {"type": "http", "headers": headers})[0]["status"] == 401
        assert told(gate, {"type": "websocket", "headers": headers})[0]["type"] == "websocket.close"
    assert passed == []
    for scope in ({"type": "http", "headers": [right]}, {"type": "lifespan"}):
        assert told(gate, scope) == []
    assert passed == ["http", "lifespan"]


def test_the_launcher_refuses_to_start_without_a_key(monkeypatch):
    monkeypatch.delenv(launch.KEY_VARIABLE, raising=False)
    with pytest.raises(SystemExit, match="holds no key"):
        launch.main(["vllm", "--model", "x"])


@pytest.mark.parametrize("kind", SERVERS.values(), ids=SERVERS)
@pytest.mark.parametrize("task", ["generate", "embedding"])
def test_what_users_add_comes_last_and_the_processor_serves_answers_alone(kind, task, tiny_model_folder):
    served = Served(tiny_model_folder, "mark", "cpu", "float32", False, task, 2, 3, ["--some=1"])
    arguments = kind.arguments(served)
    assert arguments[-1] == "--some=1" and {"mark", "float32", "2", "3", str(tiny_model_folder)} <= set(arguments)
    assert "--trust-remote-code" not in arguments and "--trust-remote-code" in kind.arguments(
        served._replace(trust_remote_code=True)
    )
    draws = {"--enable-custom-logit-processor", "--logits-processors"} & set(arguments)
    assert len(draws) == (task == "generate")
    # One place for the step that ends the longest answer.
    assert ("130" in arguments) == (task == "generate")


def test_settings_of_vllm_that_users_have_made_hold(monkeypatch):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "7")
    monkeypatch.setenv(FOLDERS_VARIABLE, "/samplers")
    environment = server_environment(VLLM, "cpu")
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "7" and environment[FOLDERS_VARIABLE] == "/samplers"
    monkeypatch.delenv(FOLDERS_VARIABLE)
    assert {server_environment(kind, "cpu")[FOLDERS_VARIABLE] for kind in SERVERS.values()} == {"/"}
    assert environment["VLLM_NO_USAGE_STATS"] == environment["HF_HUB_OFFLINE"] == "1"
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE")
    assert "VLLM_CPU_KVCACHE_SPACE" not in server_environment(VLLM, "cuda")


@pytest.mark.parametrize("engine", SERVERS)
def test_a_server_that_somebody_keeps_up_is_started_as_a_job_would(engine, tiny_model_folder, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(main_module, "check_has_package", lambda kind, python: None)
    monkeypatch.setattr(os, "execve", lambda *command: started.append(command))
    command = ["serving", str(tiny_model_folder), "--engine", engine, "--port", "7", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", [*command, "--samplers", str(tmp_path), "--", "--some=1"])
    monkeypatch.delenv(ENDPOINT_KEY_VARIABLE, raising=False)
    with pytest.raises(UserError, match=f"set {ENDPOINT_KEY_VARIABLE} to a random key"):
        main_module.main()
    monkeypatch.setenv(ENDPOINT_KEY_VARIABLE, "secret")
    main_module.main()
    ((_, arguments, environment),) = started
    assert arguments[1:4] == ["-m", "adaptive_samplers.serving.launch", engine]
    assert arguments[-5:] == ["--some=1", "--host", "127.0.0.1", "--port", "7"]
    assert mark_of("generate", tiny_model_folder) in arguments and "secret" not in " ".join(arguments)
    assert environment[launch.KEY_VARIABLE] == "secret" and environment[FOLDERS_VARIABLE] == str(tmp_path)


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
