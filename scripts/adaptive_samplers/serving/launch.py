"""Run a server in this process: `python -m adaptive_samplers.serving.launch ENGINE [the server's arguments]`.

In addition to what the server's own command does: the API key comes from the environment, where neither `ps` nor a log
shows it; with `--end-with PID` the server ends with that process, however it ends; and with `--socket FD` it listens
on an inherited socket, bound before it started, so that nobody else can take its port while it loads.
"""

import argparse
import os
import signal
import socket
import sys
import threading
import time

KEY_VARIABLE = "ADAPTIVE_SAMPLERS_SERVER_KEY"


def end_with(owner: int) -> None:
    """Kill this process group as soon as `owner` is no longer the parent."""

    def watch() -> None:
        while os.getppid() == owner:
            time.sleep(0.5)
        # The server's processes are in this group, and killing it leaves nothing hanging.
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=watch, name="end-with-owner", daemon=True).start()


def listen_on(bound: socket.socket) -> None:
    """Make uvicorn, by which SGLang serves, use this socket for its port, with one process or several."""
    import uvicorn

    port, bind, serve = bound.getsockname()[1], uvicorn.Config.bind_socket, uvicorn.Server.serve

    async def serve_there(server: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        await serve(server, [bound] if sockets is None and server.config.port == port else sockets)

    uvicorn.Server.serve = serve_there
    uvicorn.Config.bind_socket = lambda config: bound if config.port == port else bind(config)


def run_sglang(arguments: list[str], key: str, bound: socket.socket | None) -> None:
    """Serve until the end, on a socket if one is given."""
    if bound is not None:
        listen_on(bound)
    from sglang.launch_server import run_server
    from sglang.srt.server_args import prepare_server_args
    from sglang.srt.utils import kill_process_tree

    server_arguments = prepare_server_args(arguments)
    server_arguments.api_key = key
    try:
        run_server(server_arguments)
    finally:
        kill_process_tree(os.getpid(), include_parent=False)


def run_vllm(arguments: list[str], key: str, bound: socket.socket | None) -> None:
    """Serve until the end, on a socket if one is given."""
    from vllm.entrypoints.launchers import launcher
    from vllm.entrypoints.launchers.api_server.entry import main

    from adaptive_samplers.serving.gate import Gate

    if bound is not None:
        # It binds its port before it loads anything; this one is bound already.
        launcher.create_server_socket = lambda address, *, reuse_port: bound
    Gate.key = key
    # Not as vLLM's own key: that one guards some paths only, and is logged.
    sys.argv[1:] = [*arguments, "--middleware", f"{Gate.__module__}.{Gate.__name__}"]
    main()


RUN = {"sglang": run_sglang, "vllm": run_vllm}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("engine", choices=RUN)
    parser.add_argument("--end-with", type=int)
    parser.add_argument("--socket", type=int)
    ours, rest = parser.parse_known_args(arguments)
    key = os.environ.pop(KEY_VARIABLE, None)
    if not key:
        sys.exit(f"error: {KEY_VARIABLE} holds no key, and without one anybody could use the server")
    if ours.end_with is not None:
        end_with(ours.end_with)
    bound = None
    if ours.socket is not None:
        bound = socket.socket(fileno=ours.socket)
        bound.set_inheritable(False)
    RUN[ours.engine](rest, key, bound)


if __name__ == "__main__":
    main(sys.argv[1:])
