"""The engine and the judges behind vLLM without a server: what is sent, and what replies are taken for."""

import json

import numpy as np
import pytest

from adaptive_samplers.engines import Request
from adaptive_samplers.engines.vllm_engine import Payloads, VLLMEngine
from adaptive_samplers.heuristics import configured_pipeline
from adaptive_samplers.labels.judges.calls import Continuation
from adaptive_samplers.labels.judges.served_vllm import vllm_labels, vllm_likelihoods, vllm_rewards
from adaptive_samplers.samplers import build_sampler
from adaptive_samplers.serving.pool import Reply

REQUEST = Request((5, 6, 7), configured_pipeline([{"temperature": 0.7}]), 11, 3, stop=("stop here",))


def choice(token_ids, ends, reason="stop", values=(-1.0, -2.0, -3.0, -4.0)):
    """What vLLM gives for these tokens: log-probabilities of each, and of the end tokens at its place."""
    places = [
        {f"token_id:{token}": value, **{f"token_id:{end}": -10.0 - place - end for end in ends}}
        for place, (token, value) in enumerate(zip(token_ids, values, strict=False))
    ]
    return {"token_ids": token_ids, "finish_reason": reason, "logprobs": {"top_logprobs": places}}


@pytest.fixture
def engine(tiny_model):
    return VLLMEngine(tiny_model, None)


def read(engine, found, request=REQUEST):
    """The completion that an engine makes of a choice, sent as JSON."""
    return engine.completion(4, request, Reply(json.loads(json.dumps({"choices": [found]}))))


def test_a_reply_is_tokens_and_log_probabilities_without_the_end(engine):
    (end,) = ends = engine.tokenizer.end_token_ids
    found = read(engine, choice([20, 21, end], ends))
    assert (found.index, found.token_ids, found.finish_reason, found.error) == (4, [20, 21], "stop", None)
    assert found.text == engine.decode([20, 21])
    assert found.token_logprobs == [-1.0, -2.0]
    assert found.end_logprobs == pytest.approx([-10.0 - end, -11.0 - end, -12.0 - end])
    # Cut off: the end that follows was not drawn.
    longest = read(engine, choice([20, 21, 22, end], ends))
    assert (longest.token_ids, longest.finish_reason) == ([20, 21, 22], "length")
    assert len(longest.end_logprobs) == 4
    empty = read(engine, choice([end], ends))
    assert (empty.token_ids, empty.text, empty.finish_reason) == ([], "", "stop")
    assert (empty.token_logprobs, len(empty.end_logprobs)) == ([], 1)


def test_the_ends_of_several_tokens_are_one(engine, monkeypatch):
    monkeypatch.setattr(engine, "tokenizer", Ending(engine.tokenizer, [8, 9]))
    found = read(engine, choice([20, 9], [8, 9]))
    assert found.end_logprobs == pytest.approx([np.logaddexp(-18.0, -19.0), np.logaddexp(-19.0, -20.0)])
    assert found.token_ids == [20]


class Ending:
    """A tokenizer with other end tokens."""

    def __init__(self, tokenizer, ends):
        self.decode, self.end_token_ids = tokenizer.decode, ends


def test_text_ends_before_a_stop_string(engine):
    (end,) = ends = engine.tokenizer.end_token_ids
    token_ids = engine.encode("ab")
    request = Request((5,), REQUEST.pipeline, 1, len(token_ids), stop=("b",))
    found = read(engine, choice([*token_ids, end], ends), request)
    assert (found.text, found.finish_reason) == ("a", "stop")


def test_what_is_no_answer_is_an_error(engine):
    (end,) = ends = engine.tokenizer.end_token_ids
    errors = {
        "the processor failed in the server, whose log says why": choice([20, 0, 0, 0], ends, "length"),
        "ended the answer too early: ('abort', None)": choice([20, 21], ends, "abort"),
        "ended the answer too early: ('stop', None)": choice([20, 21], ends),
        "cannot be read (KeyError": choice([20, end], []),
        "cannot be read (ValueError": choice([20, 21, 22, 23, end], ends),
    }
    for message, found in errors.items():
        assert message in read(engine, found).error
        assert read(engine, found).finish_reason == "error"
    for other in ({}, {"choices": []}, {"choices": [choice([end], ends)] * 2}, []):
        assert "cannot be read" in engine.completion(0, REQUEST, Reply(other)).error
    assert engine.completion(0, REQUEST, Reply(error="gone")).error == "gone"


def test_requests_hold_token_ids_and_all_that_the_processor_needs(tmp_path):
    folder = tmp_path / "SamplingNetwork" / "a0_b1_c0_top2"
    build_sampler("SamplingNetwork", {}, seed=3).save_pretrained(folder)
    learned = Request((5,), configured_pipeline([{"learned": str(folder)}]), 12, 9)
    given = Request.reading((5, 6), [20, 21])
    first, second, third = Payloads([REQUEST, learned, given], [0, 2])
    assert first["prompt"] == [5, 6, 7] and first["max_tokens"] == 4
    assert first["stop_token_ids"] == first["logprob_token_ids"] == [0, 2] and first["ignore_eos"]
    assert first["return_token_ids"] and first["logprobs"] == 0 and "stop" not in first
    asked = [json.loads(one["vllm_xargs"]["adaptive_samplers"]) for one in (first, second, third)]
    assert asked[0]["stop"] == ["stop here"] and asked[0]["sample_seed"] == 11 and asked[0]["max_new_tokens"] == 3
    # A token that ends no answer tells of failures.
    assert {one["failure_token_id"] for one in asked} == {1}
    assert list(asked[1]["sampler_hashes"]) == [str(folder.resolve())]
    assert asked[2]["given"] == [20, 21] and third["max_tokens"] == 3


class ImitatedPool:
    """Replies as vLLM does, from a table of log-probabilities by token; or as it is told."""

    def __init__(self, reply=None):
        self.sent, self.reply = [], reply

    def run(self, path, payloads):
        for index, payload in enumerate(payloads):
            self.sent.append((path, payload))
            yield index, Reply(json.loads(json.dumps(self.reply(payload) if self.reply else self.answer(payload))))

    def answer(self, payload):
        ends = {f"token_id:{token}": -0.5 * token for token in [3, *payload["logprob_token_ids"]]}
        read = [None, *({str(token): {"logprob": -float(token), "rank": 1}} for token in payload["prompt"][1:])]
        return {"choices": [{"logprobs": {"top_logprobs": [ends]}, "prompt_logprobs": read}]}


def test_labels_from_a_server():
    pool = ImitatedPool()
    assert dict(vllm_labels(pool, [7, 8]).score([[1], [2]]))[1].values == (-3.5, -4.0)
    path, payload = pool.sent[0]
    assert path == "/v1/completions" and payload["prompt"] == [1] and payload["max_tokens"] == 1


def test_likelihoods_from_a_server():
    pool = ImitatedPool()
    questions = [Continuation((9, 8, 1, 2), 2), Continuation((9, 8, 3), 3), Continuation((9, 4), 1)]
    found = dict(vllm_likelihoods(pool, [2, 4]).score(questions))
    end = np.logaddexp(-1.0, -2.0)
    assert found[0].values == pytest.approx((-1.5, end))
    assert found[1].values == pytest.approx((end, end))  # an empty answer
    assert found[2].values == pytest.approx((-4.0, end))
    assert all(payload["prompt_logprobs"] == 0 for _, payload in pool.sent)


def test_a_server_that_scores_other_tokens_gives_no_likelihood():
    def other_tokens(payload):
        return ImitatedPool().answer({**payload, "prompt": [9, 9, 9]})

    def fewer(payload):
        return ImitatedPool().answer({**payload, "prompt": payload["prompt"][1:]})

    for reply, message in ((other_tokens, "KeyError"), (fewer, "of other tokens"), (lambda payload: {}, "KeyError")):
        found = dict(vllm_likelihoods(ImitatedPool(reply), [2]).score([Continuation((9, 8, 1), 1)]))
        assert message in found[0].error and not found[0].values


def test_rewards_from_a_server():
    pool = ImitatedPool(lambda payload: {"data": [{"probs": [float(sum(payload["input"]))]}]})
    assert dict(vllm_rewards(pool).score([[9, 4], [1, 1]]))[0].values == (13.0,)
    path, payload = pool.sent[0]
    assert path == "/classify" and payload["use_activation"] is False
    two = dict(vllm_rewards(ImitatedPool(lambda payload: {"data": [{"probs": [1.0, 2.0]}]})).score([[9]]))
    assert "2 numbers instead of one" in two[0].error
