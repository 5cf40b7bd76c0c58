"""The SGLang engine with a real server: the same answers as in process, its errors, and who can reach it."""

import contextlib
import sys

import psutil
import pytest
import requests

from adaptive_samplers.engines import Request
from adaptive_samplers.engines.sglang_engine import Payloads, SGLangEngine
from adaptive_samplers.engines.transformers_engine import TransformersEngine
from adaptive_samplers.errors import UserError
from adaptive_samplers.heuristics import configured_pipeline
from adaptive_samplers.serving.kinds import SGLANG
from adaptive_samplers.serving.pool import EndpointPool
from adaptive_samplers.serving.processor import serialized
from adaptive_samplers.serving.request import FIELD
from adaptive_samplers.serving.service import serve
from served_requests import CHAINS, ON_CPU, answers, assert_same_answers, make_requests

pytestmark = [pytest.mark.model, pytest.mark.sglang]


@pytest.fixture(scope="module")
def pool(sglang_settings, model_folder, server_log):
    """One server with the embedded model, for all tests that leave it well."""
    with serve(SGLANG, sglang_settings, ON_CPU, model_folder, server_log) as pool:
        yield pool


@pytest.fixture(scope="module")
def engine(pool, model):
    return SGLangEngine(model, lambda: contextlib.nullcontext(pool))


def test_the_same_answers_as_in_process(engine, pool, model, parity):
    asked, in_process = parity
    through_server = answers(engine, asked)
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
    assert "no_such_heuristic" in found[2].error and "has no config.json" in found[5].error
    expected = answers(engine, asked)
    assert all(found[row].token_ids == expected[row].token_ids for row in found if row not in bad)
    assert all(FIELD in replies[row].json["meta_info"] for row in bad)


def test_requests_of_people_who_only_want_the_sampler(pool, model):
    (server,) = pool.endpoints
    messages = [{"role": "user", "content": "Tell me about the sea."}]
    prompt = model.encode_chat(messages)
    chain = [{"temperature": 0.9}, {"top_p": 0.95}]
    [wanted] = answers(TransformersEngine(model, 1), [Request(tuple(prompt), configured_pipeline(chain), 12, 20)])

    def ask(path, body, **custom_params) -> dict:
        """As in docs/sglang.md, with SGLang's and with OpenAI's interface."""
        if path == "/generate":
            body = {"sampling_params": {"max_new_tokens": 20, **body, "custom_params": custom_params}}
            body |= {"input_ids": prompt}
        else:
            body = {"messages": messages, "max_tokens": 20, **body, "custom_params": custom_params}
            body |= {"model": "any", "return_meta_info": True}
        body["custom_logit_processor"] = serialized()
        reply = requests.post(server.url + path, json=body, headers=server.headers, timeout=300)
        assert reply.status_code == 200, reply.text
        if path == "/generate":
            return reply.json()
        (choice,) = reply.json()["choices"]
        return choice | {"text": choice["message"]["content"]}

    for path in ("/generate", "/v1/chat/completions"):
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
