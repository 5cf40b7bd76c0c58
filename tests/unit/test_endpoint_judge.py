"""A judge behind an OpenAI-compatible endpoint: against a real server on this machine, well and unwell."""

from collections import Counter
from contextlib import contextmanager
from itertools import combinations, pairwise

import numpy as np
import pytest
from scipy.special import expit

from adaptive_samplers.config.model.labels import Tournament
from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_number
from adaptive_samplers.labels.judges.build import open_judge
from adaptive_samplers.labels.judges.endpoint import NEVER, label_values
from adaptive_samplers.labels.quality import label_quality
from adaptive_samplers.labels.tournament import Comparison
from adaptive_samplers.serving import api as api_module
from adaptive_samplers.serving import pool as pool_module
from chat_server import ChatApi, chatting, completion
from support import in_whole
from tiny_judges import PROMPTS, QUESTIONS, judge_config, tiny_answers

ANSWERS = tiny_answers()
ASKED = dict(zip(PROMPTS["prompt_id"], QUESTIONS, strict=True))
ROUND_ROBIN = Tournament(schedule="round_robin", regularization=0.1)
KEY = "sk-very-secret"
BUSY = (503, {}, {"error": {"message": "overloaded"}})
PAIRS = [
    Comparison(group, first, second)
    for group, rows in ANSWERS[ANSWERS["finish_reason"] != "error"].groupby(["prompt_id", "seed"])
    for first, second in combinations(rows["heuristic_id"], 2)
]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(pool_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(pool_module, "SECONDS_BETWEEN_CHECKS", 0.02)


def log_odds(question):
    """What the model behind the API thinks: a number that only the question's text decides, with a leaning to A."""
    return 0.4 + (content_number(question) % 1000 - 500) / 250


def says_probabilities(question):
    odds = log_odds(question)
    top = {"A": float(np.log(0.9 * expit(odds))), " B": float(np.log(0.9 * expit(-odds))), "The": -5.0}
    return completion("A" if odds > 0 else "B", dict(sorted(top.items(), key=lambda entry: -entry[1])))


def says_a_label(question):
    return completion("A" if log_odds(question) > 0 else "**B**")


@contextmanager
def judge_at(api, place, **changes):
    config = judge_config("endpoint", base_url=api.url, **changes)
    with open_judge(config, PROMPTS, {}, place / "out", place / "log") as judge:
        judge.read(ANSWERS)
        yield judge


def question_of(comparison, turned=False):
    prompt_id, seed = comparison.group
    texts = ANSWERS.set_index(["prompt_id", "heuristic_id", "seed"])["text"]
    first, second = (texts[prompt_id, player, seed] for player in (comparison.first, comparison.second))
    if turned:
        first, second = second, first
    return None if first == second else f"{ASKED[prompt_id]}\nA: {first}\nB: {second}\nBetter:"


def test_probabilities_are_those_of_the_first_token_in_both_orders(tmp_path):
    with chatting(ChatApi(says_probabilities)) as api, judge_at(api, tmp_path) as judge:
        found, measured = judge.compare(PAIRS), judge.measured()
        for comparison, outcome in zip(PAIRS, found, strict=True):
            straight, turned = question_of(comparison), question_of(comparison, turned=True)
            expected = (expit(log_odds(straight)) + 1 - expit(log_odds(turned))) / 2 if straight else 0.5
            assert outcome == pytest.approx(expected, abs=1e-6)
    asked = {payload["messages"][0]["content"] for payload in api.received}
    assert len(asked) == len(api.received) == measured["calls_made"]
    shown = [expit(log_odds(q)) for c in PAIRS for q in (question_of(c), question_of(c, True)) if q]
    assert measured["position_bias"] == pytest.approx(np.mean(shown) - 0.5, abs=1e-6)
    assert measured["label_mass"] == pytest.approx(0.9) and measured["told_probabilities"] == 1
    assert (measured["kind"], measured["model"], measured["order"]) == ("endpoint", "test-model", "both")
    payload = api.received[0]
    assert payload | {"model": "test-model", "temperature": 0, "logprobs": True, "top_logprobs": 20} == payload
    assert payload["max_tokens"] == 16 and [m["role"] for m in payload["messages"]] == ["user"]
    assert not (tmp_path / "out.part").exists()


def test_one_order_is_half_the_calls(tmp_path):
    with chatting(ChatApi(says_probabilities)) as api, judge_at(api, tmp_path, order="one") as judge:
        found = judge.compare(PAIRS)
        expected = [expit(log_odds(q)) if (q := question_of(c)) else 0.5 for c in PAIRS]
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert judge.measured()["orders_disagree"] is None


def test_without_probabilities_the_reply_is_read(tmp_path):
    with chatting(ChatApi(says_a_label)) as api, judge_at(api, tmp_path, top_logprobs=0) as judge:
        found, measured = judge.compare(PAIRS), judge.measured()
        for comparison, outcome in zip(PAIRS, found, strict=True):
            straight, turned = question_of(comparison), question_of(comparison, turned=True)
            assert outcome == (((log_odds(straight) > 0) + (log_odds(turned) <= 0)) / 2 if straight else 0.5)
    assert set(found) == {0.0, 0.5, 1.0}
    assert measured["label_mass"] is None and measured["told_probabilities"] == 0 and measured["position_bias"] > 0
    assert not {"logprobs", "top_logprobs"} & set(api.received[0])


LISTED = [
    ("A", {"A": np.log(0.6), "B": np.log(0.3)}, (np.log(0.6), np.log(0.3))),
    # With white space and without it, the same label.
    ("A", {"A": np.log(0.4), " A": np.log(0.2), "B\n": np.log(0.1)}, (np.log(0.6), np.log(0.1))),
    # Not listed: at most what the last one listed has, and what all listed leave.
    ("A", {"A": np.log(0.7), "The": np.log(0.01)}, (np.log(0.7), np.log(0.01))),
    ("A", {"A": np.log(0.99), "The": np.log(0.009)}, (np.log(0.99), np.log(0.001))),
    ("A", {"A": 0.0, "The": -9999.0}, (0.0, NEVER)),
    # No label among the first tokens: the text tells.
    ("The better one is B.", {"The": -0.1, "I": -3.0}, (NEVER, 0.0)),
    ("B", None, (NEVER, 0.0)),
    (" **A**\n", None, (0.0, NEVER)),
    ("Answer: (A)", None, (0.0, NEVER)),
]


@pytest.mark.parametrize(("text", "top", "expected"), LISTED)
def test_what_a_reply_says(text, top, expected):
    assert label_values(completion(text, top), ["A", "B"]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("text", ["", None, "Neither.", "A is not as good as B", "Absolutely", "a"])
def test_a_reply_that_names_no_label_or_both_is_no_outcome(text):
    with pytest.raises(ValueError, match=r"it names (none|both) of A and B"):
        label_values(completion(text), ["A", "B"])


def test_troubles_that_pass_are_waited_out(tmp_path):
    slow_down = (429, {"Retry-After": "0.3"}, {"error": {"message": "rate limit"}})
    faults = [BUSY, slow_down, (None, {}, None), (500, {}, {}), (200, {}, b"<html>"), (502, {}, b"bad gateway")]
    with chatting(ChatApi(says_probabilities)) as api:
        with judge_at(api, tmp_path) as judge:
            expected = judge.compare(PAIRS)
        count = len(api.received)
        api.faults, api.times = list(faults), []
        with judge_at(api, tmp_path) as judge:
            np.testing.assert_array_equal(judge.compare(PAIRS), expected)
            assert not judge.failures
    assert len(api.received) == 2 * count + len(faults)


def test_a_server_that_asks_to_wait_is_waited_for(tmp_path):
    slow_down = (429, {"Retry-After": "0.5"}, {"error": {"message": "rate limit"}})
    with chatting(ChatApi(says_probabilities, faults=[slow_down])) as api, judge_at(api, tmp_path) as judge:
        judge.compare(PAIRS[:1])
    asked = [payload["messages"][0]["content"] for payload in api.received]
    ((first, again),) = [
        [time for text, time in zip(asked, api.times, strict=True) if text == question]
        for question, times in Counter(asked).items()
        if times == 2
    ]
    assert again - first >= 0.5


def test_a_request_that_takes_too_long_is_sent_again(tmp_path):
    with (
        chatting(ChatApi(says_probabilities, faults=[2.5])) as api,
        judge_at(api, tmp_path, request_timeout=1.0) as judge,
    ):
        assert np.isfinite(judge.compare(PAIRS)).all()
        assert len(api.received) == judge.measured()["calls_made"] + 1


def test_what_cannot_pass_is_not_tried_again_and_is_no_opinion(tmp_path):
    refused = (400, {}, {"error": {"message": "content filter"}})

    def picky(question):
        return refused if content_number(question) % 10 == 0 else says_probabilities(question)

    with chatting(ChatApi(picky)) as api, judge_at(api, tmp_path) as judge:
        found = judge.compare(PAIRS)
    failed = [any(q and content_number(q) % 10 == 0 for q in (question_of(c), question_of(c, True))) for c in PAIRS]
    np.testing.assert_array_equal(np.isnan(found), failed)
    assert 0 < sum(failed) < len(PAIRS) and len(judge.failures) == sum(failed)
    assert {reason for _, reason in judge.failures} == {
        'the server refused the request: HTTP 400: {"error": {"message": "content filter"}}'
    }
    assert max(Counter(p["messages"][0]["content"] for p in api.received).values()) == 1


def test_a_key_that_is_refused_ends_the_job_and_is_told_to_nobody(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with chatting(ChatApi(says_probabilities, key="another")) as api:
        with pytest.raises(UserError) as raised, judge_at(api, tmp_path, api_key_variable="JUDGE_KEY") as judge:
            judge.compare(PAIRS)
        assert "the key is refused: see the environment variable JUDGE_KEY" in str(raised.value)
        assert KEY not in str(raised.value) and "Bearer [key]" in str(raised.value)
        assert len(api.received) <= 8  # those that were under way
        api.key = KEY
        with judge_at(api, tmp_path, api_key_variable="JUDGE_KEY") as judge:
            assert np.isfinite(judge.compare(PAIRS)).all()
            assert KEY not in repr(vars(judge))
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.iterdir())
    assert KEY not in "".join(capfd.readouterr())


def test_a_key_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    absent = ChatApi(says_a_label, url="http://127.0.0.1:1/v1")
    wanted = pytest.raises(UserError, match="environment variable JUDGE_KEY, which api_key_variable names, is not set")
    with wanted, judge_at(absent, tmp_path, api_key_variable="JUDGE_KEY") as judge:
        judge.compare(PAIRS)


@pytest.mark.parametrize("changes", [{"model": "other"}, {"path": "/v2"}])
def test_an_address_or_a_model_that_is_not_there_ends_the_job(changes, tmp_path):
    with chatting(ChatApi(says_probabilities)) as api:
        config = {"model": changes["model"]} if "model" in changes else {}
        api.url += changes.get("path", "")
        with judge_at(api, tmp_path, **config) as judge, pytest.raises(UserError, match="see base_url and model"):
            judge.compare(PAIRS)


def test_a_server_that_stays_unwell_ends_the_job_and_a_later_one_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(api_module, "GIVE_UP_AFTER", 3)
    with chatting(ChatApi(says_probabilities)) as api:
        calls = []

        def soon_unwell(question):
            calls.append(question)
            return says_probabilities(question) if len(calls) <= 6 else BUSY

        api.reply = soon_unwell
        with pytest.raises(UserError) as raised, judge_at(api, tmp_path, concurrency=1) as judge:
            judge.compare(PAIRS)
        assert "3 requests in a row got no answer" in str(raised.value) and "overloaded" in str(raised.value)
        api.reply = says_probabilities
        with judge_at(api, tmp_path) as judge:
            assert np.isfinite(judge.compare(PAIRS)).all()
            assert judge.measured()["calls_found"] == 6
        # Another model, or other labels, would have answered otherwise.
        api.reply = soon_unwell
        calls.clear()
        with pytest.raises(UserError), judge_at(api, tmp_path, concurrency=1) as judge:
            judge.compare(PAIRS)
        api.reply = says_probabilities
        with judge_at(api, tmp_path, max_tokens=3) as judge:
            judge.compare(PAIRS)
            assert judge.measured()["calls_found"] == 0


def test_no_more_requests_at_once_and_a_second_than_allowed(tmp_path):
    with chatting(ChatApi(lambda question: says_probabilities(question), faults=[0.05] * 12)) as api:
        with judge_at(api, tmp_path, concurrency=3) as judge:
            judge.compare(PAIRS)
        assert api.most_at_once == 3
        api.times.clear()
        with judge_at(api, tmp_path, concurrency=8, requests_per_second=50.0) as judge:
            judge.compare(PAIRS[:12])
    gaps = [later - earlier for earlier, later in pairwise(sorted(api.times))]
    assert np.mean(gaps) > 0.018


def test_other_parts_of_a_request(tmp_path):
    request = {"max_tokens": None, "max_completion_tokens": 900, "temperature": None, "seed": 5}
    with chatting(ChatApi(says_probabilities)) as api, judge_at(api, tmp_path, request=request) as judge:
        judge.compare(PAIRS)
    assert {"max_tokens", "temperature"}.isdisjoint(api.received[0])
    assert (api.received[0]["max_completion_tokens"], api.received[0]["seed"]) == (900, 5)


def test_no_password_of_the_users_takes_the_keys_place(tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("JUDGE_KEY", KEY)
    api = ChatApi(says_probabilities, key=KEY)
    with chatting(api), judge_at(api, tmp_path, api_key_variable="JUDGE_KEY") as judge:
        assert np.isfinite(judge.compare(PAIRS)).all()


def test_a_tournament(tmp_path):
    with chatting(ChatApi(says_probabilities)) as api, judge_at(api, tmp_path) as judge:
        labels, report = in_whole(label_quality, [ANSWERS], judge, ROUND_ROBIN, 0.0, seed=1)
    assert report["failed"] == 0 and report["judge"]["kind"] == "endpoint"
    assert labels["rating"].notna().sum() == (ANSWERS["finish_reason"] != "error").sum()
    assert labels["reward"].isna().all()
