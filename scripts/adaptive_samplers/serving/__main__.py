"""Keep up a server that jobs of several runs, or on several nodes, can share.

    ADAPTIVE_SAMPLERS_ENDPOINT_KEY=... python -m adaptive_samplers.serving MODEL_FOLDER --port 30000

The model folder is one that the rule `fetch_model` made. Jobs use the server where the config names its address under
`endpoints` of its engine, such as `generation.sglang.endpoints`. What follows `--` goes to the server as it is.
"""

import argparse
import os
import sys
from pathlib import Path

from adaptive_samplers.errors import UserError
from adaptive_samplers.models.device import choose_device
from adaptive_samplers.serving import launch
from adaptive_samplers.serving.kinds import SERVERS, Served
from adaptive_samplers.serving.request import FOLDERS_VARIABLE
from adaptive_samplers.serving.server import (
    ENDPOINT_KEY_VARIABLE,
    LOOPBACK,
    check_has_package,
    mark_of,
    server_environment,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="adaptive_samplers.serving",
        description=__doc__.splitlines()[0],
        usage="%(prog)s [options] --port PORT model_folder [-- the server's arguments]",
    )
    parser.add_argument("model_folder", type=Path)
    parser.add_argument("--engine", default="sglang", choices=SERVERS)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default=LOOPBACK, help="other addresses than loopback are open to the network")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "cpu"])
    parser.add_argument("--tensor-parallel", type=int, default=1)
    parser.add_argument("--data-parallel", type=int, default=1)
    parser.add_argument("--embedding", action="store_true", help="a model that scores texts")
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument(
        "--samplers",
        action="append",
        type=Path,
        help="a folder from below which requests may name learned samplers, all if not given",
    )
    # argparse takes what follows `--` for a second positional argument only right after the first one.
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    options = parser.parse_args(given[:end])
    key = os.environ.get(ENDPOINT_KEY_VARIABLE)
    if not key:
        # SGLang is sent the processor as a pickle, which it loads: anyone who can reach it can run code in it.
        raise UserError(f"set {ENDPOINT_KEY_VARIABLE} to a random key, here and where the jobs run")
    kind = SERVERS[options.engine]
    check_has_package(kind, sys.executable)
    device = choose_device(options.device)
    task = "embedding" if options.embedding else "generate"
    arguments = kind.arguments(
        Served(
            options.model_folder,
            mark_of(task, options.model_folder),
            device=device,
            dtype=options.dtype,
            trust_remote_code=options.trust_remote_code,
            task=task,
            tensor_parallel=options.tensor_parallel,
            data_parallel=options.data_parallel,
            extra=given[end + 1 :],
        )
    )
    command = [sys.executable, "-m", launch.__name__, kind.name, *arguments]
    command += ["--host", options.host, "--port", str(options.port)]
    environment = server_environment(kind, device) | {launch.KEY_VARIABLE: key}
    if options.samplers:
        environment[FOLDERS_VARIABLE] = os.pathsep.join(str(folder.resolve()) for folder in options.samplers)
    os.execve(sys.executable, command, environment)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
