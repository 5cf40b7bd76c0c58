"""The vLLM engine and judges with a real server: the same answers as in process, errors, and who can reach it."""

import contextlib

import numpy as np
import psutil
import pytest
import requests

from adaptive_samplers.engines import Request
from adaptive_samplers.engines.transformers_engine import TransformersEngine
from adaptive_samplers.engines.vllm_engine import Payloads, VLLMEngine
from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.judges.build import open_judge
from adaptive_samplers.labels.judges.calls import Continuation
from adaptive_samplers.labels.judges.in_process import LabelScorer, LikelihoodScorer
from adaptive_samplers.labels.judges.served_vllm import vllm_labels, vllm_likelihoods
from adaptive_samplers.models.fetch import fetch_model
from adaptive_samplers.serving.kinds import VLLM
from adaptive_samplers.serving.pool import EndpointPool
from adaptive_samplers.serving.server import ENDPOINT_KEY_VARIABLE, OtherServer, mark_of
from adaptive_samplers.serving.service import serve
from served_requests import CHAINS, ON_CPU, answers, assert_same_answers, make_requests
from tiny_judges import PROMPTS, judge_config, tiny_answers, write_judge
from tiny_model import write_tiny_model

pytestmark = [pytest.mark.model, pytest.mark.vllm]


@pytest.fixture(scope="module")
def pool(vllm_settings, model_folder, server_log):
    """One server with the embedded model; the last test of a module may kill it."""
    with serve(VLLM, vllm_settings, ON_CPU, model_folder, server_log) as pool:
        yield pool


@pytest.fixture(scope="module")
def engine(pool, model):
    return VLLMEngine(model, lambda: contextlib.nullcontext(pool))


def test_the_same_answers_as_in_process(engine, pool, model, parity):
    asked, in_process = parity
    through_server = answers(engine, asked)
    assert_same_answers(model, asked, in_process, through_server, tolerance=1e-3)
    # Another concurrency, another order, other neighbors.
    few = EndpointPool(pool.endpoints, concurrency=3, timeout=600)
    again = answers(VLLMEngine(model, lambda: contextlib.nullcontext(few)), asked[::-9])
    assert [one.token_ids for one in again] == [one.token_ids for one in through_server[::-9]]


def test_ends_and_stop_strings_and_given_tokens_as_in_process(engine, model):
    asked = make_requests(model, CHAINS[:2], prompts=4, max_new_tokens=24, stop=(".", " the"))
    ours, theirs = answers(TransformersEngine(model, batch_size=32), asked), answers(engine, asked)
    assert_same_answers(model, asked, ours, theirs, tolerance=1e-3)
    assert {c.finish_reason for c in theirs} >= {"stop"}
    assert [len(c.end_logprobs) - len(c.token_ids) for c in theirs] == [1] * len(asked)
    given = Request.reading(asked[0].prompt_token_ids, model.encode_answer("The sea is wide. The"))
    ((ours,), (theirs,)) = answers(TransformersEngine(model, batch_size=1), [given]), answers(engine, [given])
    assert theirs.token_logprobs == pytest.approx(ours.token_logprobs, abs=1e-3)
    assert theirs.end_logprobs == pytest.approx(ours.end_logprobs, abs=1e-3)
    too_long = [*asked[:1], Request(asked[0].prompt_token_ids, asked[0].pipeline, 1, 1_000_000)]
    assert "exceed the model's context" in answers(engine, too_long)[1].error


def test_what_the_processor_refuses_is_a_row_with_the_reason(engine, pool, model):
    asked = make_requests(model, CHAINS[:3], prompts=2)
    payloads = list(Payloads(asked, model.end_token_ids))
    payloads[1]["vllm_xargs"]["adaptive_samplers"] = payloads[1]["vllm_xargs"]["adaptive_samplers"].replace(
        "temperature", "no_such_heuristic"
    )
    found = {row: engine.completion(row, asked[row], reply) for row, reply in pool.run(engine.path, payloads)}
    assert "no_such_heuristic" in found[1].error and "HTTP 400" in found[1].error
    expected = answers(engine, asked)
    assert all(found[row].token_ids == expected[row].token_ids for row in found if row != 1)


def test_language_models_as_judges_read_what_they_do_in_process(pool, model, model_folder):
    settings = judge_config("likelihood").labels.quality.judge
    prompt = tuple(model.encode_chat([{"role": "user", "content": "Which is better, A or B?"}]))
    questions = [prompt, prompt[:-3], prompt[:7]]
    labels = [model.encode(" A")[0], model.encode(" B")[0]]
    continuations = [
        Continuation(prompt + tuple(model.encode("A, of course.")), len(prompt)),
        Continuation(prompt, len(prompt)),
        Continuation(prompt, 1),
    ]
    for served, own, asked in (
        (vllm_labels(pool, labels), LabelScorer(model_folder, settings, labels), questions),
        (
            vllm_likelihoods(pool, model.end_token_ids),
            LikelihoodScorer(model_folder, settings, model.end_token_ids),
            continuations,
        ),
    ):
        found, expected = dict(served.score(asked)), dict(own.score(asked))
        for place in range(len(asked)):
            assert found[place].error is None
            assert found[place].values == pytest.approx(expected[place].values, abs=1e-3)


def test_only_this_machine_with_the_key_can_reach_the_server(pool, model_folder, server_log):
    (server,) = pool.endpoints
    key = server.headers["Authorization"].removeprefix("Bearer ")
    assert len(key) > 30
    paths = ("/v1/completions", "/v1/models", "/health", "/metrics", "/invocations", "/tokenize", "/version")
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        for path in paths:
            for method in ("GET", "POST", "OPTIONS"):
                assert requests.request(method, server.url + path, json={}, headers=headers).status_code == 401
    leader = psutil.Process(server._process.pid)
    processes = [leader, *leader.children(recursive=True)]
    listening = {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == int(server.url.rsplit(":", 1)[1])
    }
    assert listening == {"127.0.0.1"}
    assert all(key not in " ".join(process.cmdline()) for process in processes)
    assert key not in server_log.read_text()
    # As an endpoint that somebody else keeps up it is known by its mark, and refused with another model or key.
    mark = mark_of("generate", model_folder)
    assert OtherServer(VLLM, "generate", server.url, mark, server.headers).revive()
    with pytest.raises(UserError, match="holds another model"):
        OtherServer(VLLM, "generate", server.url, mark[:-1], server.headers).revive()
    with pytest.raises(UserError, match=f"refuses the key; set {ENDPOINT_KEY_VARIABLE}"):
        OtherServer(VLLM, "generate", server.url, mark, {}).revive()


def test_reward_models_rate_as_they_do_in_process(vllm_settings, tmp_path):
    # Heads of a width that vLLM has on a CPU.
    write_tiny_model(tmp_path / "written", head_dim=32)
    fetch_model("tiny", {"kind": "folder", "path": str(tmp_path / "written")}, "CC0-1.0", tmp_path / "tiny")
    inputs = {"judge_model": str(write_judge(tmp_path / "tiny", tmp_path / "model", "scalar"))}
    found = []
    for engine in ("transformers", "vllm"):
        config = judge_config("scalar", engine=engine, vllm=vllm_settings)
        with open_judge(config, PROMPTS, inputs, tmp_path / f"{engine}.out", tmp_path / f"{engine}.log") as judge:
            judge.read(tiny_answers())
            found.append(dict(judge.rewards))
            assert not judge.failures
    assert found[0].keys() == found[1].keys() and np.std(list(found[0].values())) > 0.05
    for key, reward in found[0].items():
        assert found[1][key] == pytest.approx(reward, abs=1e-3)
