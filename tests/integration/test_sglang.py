"""The SGLang engine with a real server: the same answers as in process, its errors, and who can reach it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pandas as pd
import psutil
import pytest
import requests

from adaptive_samplers.engines import Request
from adaptive_samplers.engines.sglang_engine import Payloads, SGLangEngine
from adaptive_samplers.engines.transformers_engine import TransformersEngine
from adaptive_samplers.errors import UserError
from adaptive_samplers.heuristics import configured_pipeline
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.serving.kinds import SGLANG
from adaptive_samplers.serving.pool import EndpointPool
from adaptive_samplers.serving.processor import serialized
from adaptive_samplers.serving.request import FIELD
from adaptive_samplers.serving.server import ENDPOINT_KEY_VARIABLE
from adaptive_samplers.serving.service import serve
from served_requests import CHAINS, ON_CPU, answers, assert_same_answers, make_requests, parity_requests, questions
from support import REPOSITORY

pytestmark = [pytest.mark.model, pytest.mark.sglang]


@pytest.fixture(scope="module")
def pool(sglang_settings, model_folder, server_log):
    """One server with the embedded model, for all tests that leave it well."""
    with serve(SGLANG, sglang_settings, ON_CPU, model_folder, server_log) as pool:
        yield pool


@pytest.fixture(scope="module")
def engine(pool, model):
    return SGLangEngine(model, lambda: contextlib.nullcontext(pool))


def test_the_same_answers_as_in_process(engine, pool, model, tmp_path):
    asked = parity_requests(model, tmp_path)
    through_server = answers(engine, asked)
    in_process = answers(TransformersEngine(model, batch_size=96), asked)
    assert_same_answers(model, asked, in_process, through_server, tolerance=2e-3)
    # Another concurrency, another order, other neighbors.
    few = EndpointPool(pool.endpoints, concurrency=3, timeout=600)
    again = answers(SGLangEngine(model, lambda: contextlib.nullcontext(few)), asked[::-9])
    assert [one.token_ids for one in again] == [one.token_ids for one in through_server[::-9]]


def test_ends_and_stop_strings_as_in_process(engine, model):
    asked = make_requests(model, CHAINS[:2], prompts=6, max_new_tokens=24, stop=(".", " the"))
    ours, theirs = answers(TransformersEngine(model, batch_size=32), asked), answers(engine, asked)
    assert [(c.token_ids, c.text, c.finish_reason) for c in theirs] == [
        (c.token_ids, c.text, c.finish_reason) for c in ours
    ]
    assert {c.finish_reason for c in theirs} >= {"stop"}
    assert [len(c.end_logprobs) - len(c.token_ids) for c in theirs] == [1] * len(asked)
    too_long = [*asked[:1], Request(asked[0].prompt_token_ids, asked[0].pipeline, 1, 1_000_000)]
    assert "exceed the model's context" in answers(engine, too_long)[1].error


def test_a_failing_processor_names_its_row_and_leaves_the_others_alone(engine, pool, model, tmp_path):
    asked = make_requests(model, CHAINS[:3], prompts=4)
    payloads = list(Payloads(asked, model.end_token_ids))
    bad = {
        2: {"processors": '[{"name": "no_such_heuristic", "params": {}}]'},
        5: {"processors": [{"learned": str(tmp_path / "gone")}]},
        7: {"sample_seed": "text"},
    }
    for row, change in bad.items():
        payloads[row]["sampling_params"]["custom_params"] |= change
    replies = dict(pool.run("/generate", payloads))
    found = {row: engine.completion(row, asked[row], replies[row]) for row in replies}
    assert {row for row, one in found.items() if one.error} == set(bad)
    assert "no_such_heuristic" in found[2].error and str(tmp_path / "gone") in found[5].error
    expected = answers(engine, asked)
    assert all(found[row].token_ids == expected[row].token_ids for row in found if row not in bad)
    assert all(FIELD in replies[row].json["meta_info"] for row in bad)


def test_requests_of_people_who_only_want_the_sampler(pool, model):
    (server,) = pool.endpoints
    prompt = list(make_requests(model, CHAINS[:1], prompts=1)[0].prompt_token_ids)
    chain = [{"temperature": 0.9}, {"top_p": 0.95}]
    [wanted] = answers(TransformersEngine(model, 1), [Request(tuple(prompt), configured_pipeline(chain), 12, 20)])

    def ask(path, body, **custom_params) -> dict:
        """As in docs/sglang.md, with SGLang's and with OpenAI's interface."""
        if path == "/generate":
            body = {"sampling_params": {"max_new_tokens": 20, **body, "custom_params": custom_params}}
            body |= {"input_ids": prompt}
        else:
            body = {"prompt": prompt, "max_tokens": 20, **body, "custom_params": custom_params}
            body |= {"model": "any", "return_meta_info": True}
        body["custom_logit_processor"] = serialized()
        reply = requests.post(server.url + path, json=body, headers=server.headers, timeout=300)
        assert reply.status_code == 200, reply.text
        return reply.json() if path == "/generate" else reply.json()["choices"][0]

    for path in ("/generate", "/v1/completions"):
        # SGLang's own sampling parameters have nothing to decide.
        for neutral in ({}, {"temperature": 0.1}, {"top_p": 0.2, "top_k": 3, "min_p": 0.3}):
            found = ask(path, neutral, processors=chain, sample_seed=12)
            assert found["text"].startswith(wanted.text)
            assert len(found["meta_info"][FIELD]) == found["meta_info"]["completion_tokens"]
        refused = ask(path, {}, processors=[{"top_p": 7}])
        assert "adaptive_samplers.processors[0].top_p: is 7" in refused["meta_info"][FIELD][0]["error"]
        refused = ask(path, {"frequency_penalty": 0.5}, processors=chain)
        assert "frequency_penalty: 0.5 with adaptive_samplers" in refused["meta_info"][FIELD][0]["error"]
    assert answers(SGLangEngine(model, lambda: contextlib.nullcontext(pool)), make_requests(model, CHAINS[:1], 1))


def processes_of(endpoint) -> list[psutil.Process]:
    leader = psutil.Process(endpoint._process.pid)
    return [leader, *leader.children(recursive=True)]


def test_only_this_machine_with_the_key_can_reach_the_server(pool, engine, model, server_log):
    answers(engine, make_requests(model, CHAINS[:1], prompts=1))
    (server,) = pool.endpoints
    key = server.headers["Authorization"].removeprefix("Bearer ")
    assert len(key) > 30
    payload = {"input_ids": [1, 2], "sampling_params": {"max_new_tokens": 1}}
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        for path in ("/generate", "/model_info", "/server_info"):
            method = "POST" if path == "/generate" else "GET"
            assert requests.request(method, server.url + path, json=payload, headers=headers).status_code == 401
    processes = processes_of(server)
    assert len(processes) > 2
    listening = {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == int(server.url.rsplit(":", 1)[1])
    }
    assert listening == {"127.0.0.1"}
    assert all(key not in " ".join(process.cmdline()) for process in processes)
    log = server_log.read_text()
    assert "[key]" in log and key not in log
    assert key not in repr(server) and key not in repr(pool)


@pytest.mark.fault
def test_a_killed_server_is_started_again_and_only_unfinished_rows_go_again(
    sglang_settings, tiny_model_folder, tmp_path
):
    tokenizer = ChatTokenizer(tiny_model_folder)
    asked = make_requests(tokenizer, CHAINS, prompts=12, max_new_tokens=10)
    sent = Counter()
    seen = []
    with serve(
        SGLANG,
        sglang_settings.model_copy(update={"concurrency": 8}),
        ON_CPU,
        tiny_model_folder,
        tmp_path / "server.log",
    ) as pool:
        send = pool._send

        def counted(endpoint, path, payload):
            sent[json.dumps(payload["sampling_params"], sort_keys=True) + str(payload["input_ids"])] += 1
            return send(endpoint, path, payload)

        pool._send = counted
        engine = SGLangEngine(tokenizer, lambda: contextlib.nullcontext(pool))
        for completion in engine.generate(asked):
            seen.append(completion)
            if len(seen) == 30:
                os.kill(processes_of(pool.endpoints[0])[-1].pid, signal.SIGKILL)
    assert sorted(one.index for one in seen) == list(range(len(asked)))
    assert all(one.error is None for one in seen)
    assert sum(sent.values()) <= len(asked) + 8  # nothing again but what was under way
    in_process = answers(TransformersEngine(_loaded(tiny_model_folder), 64), asked)
    same = sum(one.token_ids == in_process[one.index].token_ids for one in seen)
    assert same >= 0.99 * len(asked)
    assert not [
        p for p in psutil.process_iter(["cmdline"]) if str(tiny_model_folder) in " ".join(p.info["cmdline"] or [])
    ]


def _loaded(folder: Path):
    from adaptive_samplers.models.language_model import LanguageModel

    return LanguageModel(folder, device="cpu")


CLIENT = """
import json, sys
from functools import partial
from pathlib import Path
import pandas as pd
from adaptive_samplers.config.model.generation import SGLang
from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.config.model.sources import BaseModelSettings
from adaptive_samplers.config.typed import typed_section
from adaptive_samplers.engines.sglang_engine import SGLangEngine
from adaptive_samplers.generation import GenerationSettings, generate
from adaptive_samplers.heuristics import expand_heuristics
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.models.fetch import model_hash
from adaptive_samplers.serving.kinds import SGLANG
from adaptive_samplers.serving.service import serve

arguments = json.loads(sys.argv[1])
folder, output = Path(arguments["model"]), Path(arguments["output"])
settings = SGLang(**arguments["sglang"])
on_cpu = typed_section({"dtype": "float32", "device": "cpu", "trust_remote_code": False}, BaseModelSettings)
log = output.with_suffix(".log")
engine = SGLangEngine(ChatTokenizer(folder), partial(serve, SGLANG, settings, on_cpu, folder, log))
grid = [{"family": "temperature", "temperatures": [0.5, 0.7, 1.0]}]
heuristics = pd.DataFrame(expand_heuristics(Heuristics(grid=grid)))
generate(
    pd.DataFrame(arguments["prompts"]), heuristics, [0, 1], engine, model_hash(folder),
    GenerationSettings(1, 40, (), "float32"), output,
)
"""


def client(tmp_path, sglang_settings, folder, prompts=30) -> tuple[list[str], dict, Path]:
    """The command of a process that generates a shard, its environment, and the shard."""
    output = tmp_path / "shard.parquet"
    rows = [
        {"prompt_id": f"p{i:02}", "kind": "chat", "messages": json.dumps([{"role": "user", "content": question[:40]}])}
        for i, question in enumerate(questions(prompts))
    ]
    arguments = {
        "model": str(folder),
        "output": str(output),
        "sglang": sglang_settings.model_dump() | {"concurrency": 4},
        "prompts": rows,
    }
    paths = [str(REPOSITORY / "scripts"), os.environ["PYTHONPATH"]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return [sys.executable, "-c", CLIENT, json.dumps(arguments)], environment, output


@pytest.mark.fault
def test_a_killed_client_leaves_no_server_behind_and_loses_no_row(sglang_settings, tiny_model_folder, tmp_path):
    command, environment, output = client(tmp_path, sglang_settings, tiny_model_folder)
    part = Path(f"{output}.part")
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    while not part.exists() or len(part.read_text().splitlines()) < 40:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    servers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    finished = [json.loads(line) for line in part.read_text().splitlines()[1:] if line.endswith("}")]
    _, alive = psutil.wait_procs(servers, timeout=10)
    assert len(servers) > 2 and alive == []
    assert not output.exists()

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(finished)} of 180 answers were finished before" in done.stderr
    table = pd.read_parquet(output)
    assert len(table) == 180 and not table.duplicated(["prompt_id", "heuristic_id", "seed"]).any()
    assert not (table["finish_reason"] == "error").any() and not part.exists()
    kept = table.set_index(["prompt_id", "heuristic_id", "seed"])
    for row in finished:
        assert list(kept.loc[tuple(row["key"])]["token_ids"]) == row["token_ids"]


def test_a_server_that_cannot_start_says_why(sglang_settings, tiny_model_folder, tmp_path):
    settings = sglang_settings.model_copy(update={"arguments": ["--no-such-argument"]})
    log = tmp_path / "server.log"
    with (
        pytest.raises(UserError, match=r"ended while it started(.|\n)*no-such-argument"),
        serve(SGLANG, settings, ON_CPU, tiny_model_folder, log),
    ):
        pass
    with (
        pytest.raises(UserError, match="has no SGLang; install it"),
        serve(SGLANG, settings.model_copy(update={"python": sys.executable}), ON_CPU, tiny_model_folder, log),
    ):
        pass


@contextlib.contextmanager
def kept_up(settings, folder, port: int, key: str, log: Path):
    """A server as somebody else would start it."""
    paths = [str(REPOSITORY / "scripts"), os.environ["PYTHONPATH"]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), ENDPOINT_KEY_VARIABLE: key}
    command = [settings.python, "-m", "adaptive_samplers.serving", str(folder), "--port", str(port)]
    with open(log, "w") as output:
        process = subprocess.Popen(
            [*command, "--dtype", "float32", "--device", "cpu"],
            env=environment,
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
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.fault
def test_endpoints_of_somebody_else_one_going_down(
    sglang_settings, tiny_model_folder, model_folder, tmp_path, monkeypatch
):
    ports, key = [free_port(), free_port()], "a-key-for-this-test"
    monkeypatch.setenv(ENDPOINT_KEY_VARIABLE, key)
    endpoints = [f"http://127.0.0.1:{port}" for port in ports]
    settings = sglang_settings.model_copy(update={"endpoints": endpoints, "concurrency": 8})
    tokenizer = ChatTokenizer(tiny_model_folder)
    log = tmp_path / "unused.log"
    engine = SGLangEngine(tokenizer, partial(serve, SGLANG, settings, ON_CPU, tiny_model_folder, log))
    asked = make_requests(tokenizer, CHAINS, prompts=20, max_new_tokens=10)
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(kept_up(sglang_settings, tiny_model_folder, port, key, tmp_path / f"{port}.log"))
            for port in ports
        ]
        # The pool waits for servers that are not there yet.
        seen = []
        for completion in engine.generate(asked):
            seen.append(completion)
            if len(seen) == 40:
                os.killpg(processes[0].pid, signal.SIGKILL)
        assert sorted(one.index for one in seen) == list(range(len(asked)))
        assert all(one.error is None for one in seen)
        logs = [(tmp_path / f"{port}.log").read_text() for port in ports]
        # On a busy machine one server may be much quicker, and is given more.
        assert min(log.count("POST /generate") for log in logs) >= 1

        # A server with another model, or with another key, is refused before anything is asked of it.
        other = settings.model_copy(update={"endpoints": endpoints[1:]})
        with (
            serve(SGLANG, other, ON_CPU, model_folder, log) as pool,
            pytest.raises(UserError, match="this server holds another model"),
        ):
            list(pool.run("/generate", [{}]))
        monkeypatch.setenv(ENDPOINT_KEY_VARIABLE, "another")
        with (
            serve(SGLANG, other, ON_CPU, tiny_model_folder, log) as pool,
            pytest.raises(UserError, match="refuses the key"),
        ):
            list(pool.run("/generate", [{}]))
    assert not log.exists()
