"""Servers and clients that are killed, and endpoints that go down: no row is lost, and none is there twice."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from adaptive_samplers.config.model.generation import ServerSettings
from adaptive_samplers.engines.sglang_engine import SGLangEngine
from adaptive_samplers.engines.transformers_engine import TransformersEngine
from adaptive_samplers.engines.vllm_engine import VLLMEngine
from adaptive_samplers.errors import UserError
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.models.fetch import fetch_model
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.serving.kinds import SERVERS, ServerKind
from adaptive_samplers.serving.server import ENDPOINT_KEY_VARIABLE
from adaptive_samplers.serving.service import serve
from served_requests import CHAINS, ON_CPU, answers, make_requests, questions
from support import REPOSITORY
from tiny_model import write_tiny_model

pytestmark = [pytest.mark.model, pytest.mark.fault]
ENGINES = {"sglang": SGLangEngine, "vllm": VLLMEngine}


@dataclass
class Served:
    """A kind of server with a tiny model, and how many requests it gets at once."""

    kind: ServerKind
    settings: ServerSettings
    folder: Path

    @property
    def engine(self) -> type:
        return ENGINES[self.kind.name]

    def at_once(self, requests: int, **changes: Any) -> ServerSettings:
        return self.settings.model_copy(update={"concurrency": requests, **changes})


@pytest.fixture(scope="module", params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in ENGINES])
def served(request, tmp_path_factory) -> Served:
    settings = request.getfixturevalue(f"{request.param}_settings")
    place = tmp_path_factory.mktemp("tiny")
    # Heads of a width that vLLM has on a CPU.
    write_tiny_model(place / "written", head_dim=32)
    fetch_model("tiny", {"kind": "folder", "path": str(place / "written")}, "CC0-1.0", place / "model")
    return Served(SERVERS[request.param], settings, place / "model")


def moment(repetition: int, earliest: int, latest: int) -> int:
    """After how many answers the fault comes."""
    return random.Random(repetition).randint(earliest, latest)


def test_a_killed_server_is_started_again_and_only_unfinished_rows_go_again(served, tmp_path, repetition):
    tokenizer = ChatTokenizer(served.folder)
    asked = make_requests(tokenizer, CHAINS, prompts=12, max_new_tokens=10)
    sent, seen = Counter(), []
    with serve(served.kind, served.at_once(8), ON_CPU, served.folder, tmp_path / "server.log") as pool:
        send = pool._send

        def counted(endpoint, path, payload):
            sent[json.dumps(payload, sort_keys=True)] += 1
            return send(endpoint, path, payload)

        pool._send = counted
        for completion in served.engine(tokenizer, lambda: contextlib.nullcontext(pool)).generate(asked):
            seen.append(completion)
            if len(seen) == moment(repetition, 10, 90):
                leader = psutil.Process(pool.endpoints[0]._process.pid)
                processes = [leader, *leader.children(recursive=True)]
                os.kill(processes[-repetition % len(processes)].pid, signal.SIGKILL)
    assert sorted(one.index for one in seen) == list(range(len(asked)))
    assert [one.error for one in seen if one.error] == []
    assert sum(sent.values()) <= len(asked) + 8  # nothing again but what was under way
    in_process = answers(TransformersEngine(LanguageModel(served.folder, device="cpu"), 64), asked)
    same = sum(one.token_ids == in_process[one.index].token_ids for one in seen)
    assert same >= 0.99 * len(asked)
    assert not [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(served.folder) in " ".join(process.info["cmdline"] or [])
    ]


CLIENT = """
import json, sys
from functools import partial
from pathlib import Path
import pandas as pd
from adaptive_samplers.config.model import generation as settings
from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.config.model.sources import BaseModelSettings
from adaptive_samplers.config.typed import typed_section
from adaptive_samplers.engines.sglang_engine import SGLangEngine
from adaptive_samplers.engines.vllm_engine import VLLMEngine
from adaptive_samplers.generation import GenerationSettings, generate
from adaptive_samplers.heuristics import expand_heuristics
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.models.fetch import model_hash
from adaptive_samplers.serving.kinds import SERVERS
from adaptive_samplers.serving.service import serve

arguments = json.loads(sys.argv[1])
folder, output = Path(arguments["model"]), Path(arguments["output"])
made, engine = {"sglang": (settings.SGLang, SGLangEngine), "vllm": (settings.VLLM, VLLMEngine)}[arguments["kind"]]
on_cpu = typed_section({"dtype": "float32", "device": "cpu", "trust_remote_code": False}, BaseModelSettings)
served = (SERVERS[arguments["kind"]], made(**arguments["settings"]), on_cpu, folder, output.with_suffix(".log"))
grid = [{"family": "temperature", "temperatures": [0.5, 0.7, 1.0]}]
heuristics = pd.DataFrame(expand_heuristics(Heuristics(grid=grid)))
generate(
    pd.DataFrame(arguments["prompts"]), heuristics, [0, 1], engine(ChatTokenizer(folder), partial(serve, *served)),
    model_hash(folder), GenerationSettings(1, 40, (), "float32"), output,
)
"""


def client(served: Served, output: Path, prompts: int = 30) -> tuple[list[str], dict[str, str]]:
    """The command of a process that generates a shard, and its environment."""
    rows = [
        {"prompt_id": f"p{i:02}", "kind": "chat", "messages": json.dumps([{"role": "user", "content": question[:40]}])}
        for i, question in enumerate(questions(prompts))
    ]
    arguments = {
        "kind": served.kind.name,
        "model": str(served.folder),
        "output": str(output),
        "settings": served.at_once(4).model_dump(),
        "prompts": rows,
    }
    return [sys.executable, "-c", CLIENT, json.dumps(arguments)], environment()


def environment(**more: str) -> dict[str, str]:
    """Of a process that can import the library."""
    paths = [str(REPOSITORY / "scripts"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


def test_a_killed_client_leaves_no_server_behind_and_loses_no_row(served, tmp_path, repetition):
    output = tmp_path / "shard.parquet"
    command, variables = client(served, output)
    part = Path(f"{output}.part")
    process = subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True)
    while not part.exists() or len(part.read_text().splitlines()) < moment(repetition, 30, 120):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    servers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    finished = [json.loads(line) for line in part.read_text().splitlines()[1:] if line.endswith("}")]
    _, alive = psutil.wait_procs(servers, timeout=60)
    assert len(servers) > 1 and alive == []
    assert not output.exists()

    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(finished)} of 180 answers were finished before" in done.stderr
    table = pd.read_parquet(output)
    assert len(table) == 180 and not table.duplicated(["prompt_id", "heuristic_id", "seed"]).any()
    assert not (table["finish_reason"] == "error").any() and not part.exists()
    kept = table.set_index(["prompt_id", "heuristic_id", "seed"])
    for row in finished:
        assert list(kept.loc[tuple(row["key"])]["token_ids"]) == row["token_ids"]


@contextlib.contextmanager
def kept_up(served: Served, port: int, key: str, log: Path) -> Iterator[subprocess.Popen]:
    """A server as somebody else would start it."""
    command = [served.settings.python, "-m", "adaptive_samplers.serving", served.folder, "--engine", served.kind.name]
    command += ["--port", port, "--dtype", "float32", "--device", "cpu"]
    with open(log, "w") as output:
        process = subprocess.Popen(
            list(map(str, command)),
            env=environment(**{ENDPOINT_KEY_VARIABLE: key}),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_endpoints_of_somebody_else_one_going_down(served, model_folder, tmp_path, monkeypatch, repetition):
    ports, key = [free_port(), free_port()], "a-key-for-this-test"
    monkeypatch.setenv(ENDPOINT_KEY_VARIABLE, key)
    endpoints = [f"http://127.0.0.1:{port}" for port in ports]
    settings = served.at_once(8, endpoints=endpoints)
    tokenizer = ChatTokenizer(served.folder)
    log = tmp_path / "unused.log"
    engine = served.engine(tokenizer, partial(serve, served.kind, settings, ON_CPU, served.folder, log))
    asked = make_requests(tokenizer, CHAINS, prompts=20, max_new_tokens=10)
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(kept_up(served, port, key, tmp_path / f"{port}.log")) for port in ports]

        def answered() -> list[int]:
            """How many requests each server has answered."""
            return [(tmp_path / f"{port}.log").read_text().count(f"POST {served.engine.path}") for port in ports]

        # The pool waits for servers that are not there yet.
        seen, down = [], 0
        for completion in engine.generate(asked):
            seen.append(completion)
            if len(seen) == moment(repetition, 20, 120):
                # On a busy machine the other one may not be there yet.
                counts = answered()
                down = counts.index(max(counts))
                os.killpg(processes[down].pid, signal.SIGKILL)
        assert sorted(one.index for one in seen) == list(range(len(asked)))
        assert [one.error for one in seen if one.error] == []
        assert min(answered()) >= 1

        # A server with another model, or with another key, is refused before anything is asked of it.
        other = served.at_once(8, endpoints=[endpoints[1 - down]])
        with (
            serve(served.kind, other, ON_CPU, model_folder, log) as pool,
            pytest.raises(UserError, match="this server holds another model"),
        ):
            list(pool.run(served.engine.path, [{}]))
        monkeypatch.setenv(ENDPOINT_KEY_VARIABLE, "another")
        with (
            serve(served.kind, other, ON_CPU, served.folder, log) as pool,
            pytest.raises(UserError, match="refuses the key"),
        ):
            list(pool.run(served.engine.path, [{}]))
    assert not log.exists()
