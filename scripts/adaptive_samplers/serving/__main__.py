"""Keep up an SGLang server that jobs of several runs, or on several nodes, can share.

    ADAPTIVE_SAMPLERS_ENDPOINT_KEY=... python -m adaptive_samplers.serving MODEL_FOLDER --port 30000

The model folder is one that the rule `fetch_model` made. Jobs use the server where the config names its address under
`generation.sglang.endpoints`. What follows `--` goes to SGLang as it is.
"""

import argparse
import os
import sys
from pathlib import Path

from adaptive_samplers.errors import UserError
from adaptive_samplers.models.device import choose_device
from adaptive_samplers.models.fetch import model_hash
from adaptive_samplers.serving import launch
from adaptive_samplers.serving.server import (
    ENDPOINT_KEY_VARIABLE,
    LOOPBACK,
    MARK,
    check_has_sglang,
    server_arguments,
    server_environment,
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="adaptive_samplers.serving", description=__doc__.splitlines()[0])
    parser.add_argument("model_folder", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default=LOOPBACK, help="other addresses than loopback are open to the network")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "cpu"])
    parser.add_argument("--tensor-parallel", type=int, default=1)
    parser.add_argument("--data-parallel", type=int, default=1)
    parser.add_argument("--embedding", action="store_true", help="a model that scores texts")
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument("extra", nargs="*", metavar="-- SGLANG'S ARGUMENTS")
    options = parser.parse_args()
    key = os.environ.get(ENDPOINT_KEY_VARIABLE)
    if not key:
        # The processor is sent as a pickle, which this server loads: anyone who can reach it can run code in it.
        raise UserError(f"set {ENDPOINT_KEY_VARIABLE} to a random key, here and where the jobs run")
    check_has_sglang(sys.executable)
    device = choose_device(options.device)
    kind = "embedding" if options.embedding else "generate"
    arguments = server_arguments(
        options.model_folder,
        MARK.format(kind=kind, model_hash=model_hash(options.model_folder)[:16]),
        device=device,
        dtype=options.dtype,
        trust_remote_code=options.trust_remote_code,
        kind=kind,
        tensor_parallel=options.tensor_parallel,
        data_parallel=options.data_parallel,
        extra=options.extra,
    )
    command = [sys.executable, "-m", launch.__name__, *arguments, "--host", options.host, "--port", str(options.port)]
    environment = server_environment(device) | {launch.KEY_VARIABLE: key}
    os.execve(sys.executable, command, environment)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
