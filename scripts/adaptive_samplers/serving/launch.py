"""Run SGLang's server in this process: `python -m adaptive_samplers.serving.launch [SGLang's arguments]`.

Beside what SGLang's own command does: the API key comes from the environment, where neither `ps` nor a log shows it,
and with `--end-with PID` the server ends with the process of that number, whatever way that ends.
"""

import os
import signal
import sys
import threading
import time

KEY_VARIABLE = "ADAPTIVE_SAMPLERS_SERVER_KEY"


def end_with(owner: int) -> None:
    """Kill this process group as soon as `owner` is no longer the parent."""

    def watch() -> None:
        while os.getppid() == owner:
            time.sleep(0.5)
        # SGLang's processes are in this group, and a kill leaves nothing to hang.
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=watch, name="end-with-owner", daemon=True).start()


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--end-with"]:
        end_with(int(arguments[1]))
        arguments = arguments[2:]
    from sglang.launch_server import run_server
    from sglang.srt.server_args import prepare_server_args
    from sglang.srt.utils import kill_process_tree

    server_arguments = prepare_server_args(arguments)
    server_arguments.api_key = os.environ.pop(KEY_VARIABLE, None)
    try:
        run_server(server_arguments)
    finally:
        kill_process_tree(os.getpid(), include_parent=False)


if __name__ == "__main__":
    main(sys.argv[1:])
