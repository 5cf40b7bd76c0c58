"""Rewards from a reference model's log-probabilities: equal to plain forwards, in process and by a server's reply."""

import json
from itertools import islice

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from adaptive_samplers.config.model.labels import Tournament
from adaptive_samplers.labels.judges import in_process
from adaptive_samplers.labels.judges.build import open_judge
from adaptive_samplers.labels.judges.calls import Continuation, Result
from adaptive_samplers.labels.judges.in_process import LikelihoodScorer
from adaptive_samplers.labels.judges.served import served_likelihoods
from adaptive_samplers.labels.quality import label_quality
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.serving.pool import Reply
from support import in_whole
from tiny_judges import PROMPTS, QUESTIONS, judge_config, tiny_answers, write_judge

ANSWERS = tiny_answers()
TOURNAMENT = Tournament(schedule="round_robin", regularization=0.1)
ONE = {"answer": 0.0, "end": 0.0, "unconditional": 0.0, "question": 0.0}
ASKED = dict(zip(PROMPTS["prompt_id"], QUESTIONS, strict=True))


@pytest.fixture(scope="module")
def folder(tiny_model_folder, tmp_path_factory):
    return write_judge(tiny_model_folder, tmp_path_factory.mktemp("reference") / "model", "likelihood")


@pytest.fixture(scope="module")
def plain(folder):
    """Mean log-probability of a reply's tokens, and that of ending after it, token by token."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), ChatTokenizer(folder)

    def of(question, reply):
        asked = tokenizer.encode_chat([{"role": "user", "content": question}])
        said = tokenizer.encode(reply)
        with torch.no_grad():
            logprobs = model(torch.tensor([asked + said])).logits[0].log_softmax(-1).double().numpy()
        tokens = [logprobs[len(asked) + place - 1, token] for place, token in enumerate(said)]
        end = np.log(sum(np.exp(logprobs[-1, token]) for token in tokenizer.end_token_ids))
        return (np.mean(tokens) if tokens else end), end

    return of


def rewards_of(folder, place, candidates=ANSWERS, **changes):
    place.mkdir(parents=True, exist_ok=True)
    config = judge_config("likelihood", **changes)
    with open_judge(config, PROMPTS, {"judge_model": folder}, place / "out", place / "log") as judge:
        judge.read(candidates)
        return judge.rewards, judge.measured(), judge.failures


EXPECTED = {
    "answer": lambda plain, question, text: plain(question, text)[0],
    "end": lambda plain, question, text: plain(question, text)[1],
    "unconditional": lambda plain, question, text: plain("", text)[0],
    "question": lambda plain, question, text: plain(text, question)[0],
}


@pytest.mark.parametrize("term", EXPECTED)
def test_each_term_is_that_of_a_plain_forward(term, folder, plain, tmp_path):
    rewards, measured, failures = rewards_of(folder, tmp_path, weights={**ONE, term: 1.0})
    answered = ANSWERS[ANSWERS["finish_reason"] != "error"]
    assert len(rewards) == len(answered) == measured["answers_rated"] and not failures
    for row in answered.itertuples():
        expected = EXPECTED[term](plain, ASKED[row.prompt_id], row.text)
        assert rewards[row.prompt_id, row.heuristic_id, row.seed] == pytest.approx(expected, abs=1e-4)
    assert np.std(list(rewards.values())) > 0.05
    assert measured["weights"] == {term: 1.0} and measured["calls_made"] <= len(answered)


def test_the_reward_is_the_weighted_sum_and_takes_no_more_calls_than_it_needs(folder, tmp_path):
    single = {term: rewards_of(folder, tmp_path / term, weights={**ONE, term: 1.0})[0] for term in ONE}
    weights = {"answer": 1.0, "end": 0.5, "unconditional": -1.0, "question": 2.0}
    rewards, measured, _ = rewards_of(folder, tmp_path / "all", weights=weights)
    for key, reward in rewards.items():
        assert reward == pytest.approx(sum(weight * single[term][key] for term, weight in weights.items()), abs=1e-4)
    # `answer` and `end` are one call; equal answers to one prompt are one call, and to none.
    answered = ANSWERS[ANSWERS["finish_reason"] != "error"]
    distinct = len(answered[["prompt_id", "text"]].drop_duplicates())
    assert measured["calls_made"] == 2 * distinct + answered["text"].nunique()
    assert rewards_of(folder, tmp_path / "two", weights={**ONE, "answer": 1.0, "end": 0.5})[1]["calls_made"] == distinct


def test_batches_and_shared_prefixes_change_nothing(folder, tmp_path, monkeypatch):
    weights = {"answer": 1.0, "end": 0.5, "unconditional": -1.0, "question": 2.0}
    found = []
    for number, (size, prefix) in enumerate([(1, 16), (3, 4), (64, 2), (64, 1000)]):
        monkeypatch.setattr(in_process, "SHORTEST_PREFIX", prefix)
        mixed = ANSWERS.sample(frac=1, random_state=number)
        found.append(rewards_of(folder, tmp_path / str(number), mixed, weights=weights, batch_size=size)[0])
    for rewards in found[1:]:
        assert rewards == pytest.approx(found[0], abs=1e-4)


def test_an_answer_cut_at_the_limit_is_judged_up_to_its_last_sentence(folder, plain, tmp_path):
    cut = ANSWERS.copy()
    cut.loc[2, ["text", "finish_reason"]] = ["The cat. A dog", "length"]
    cut.loc[3, ["text", "finish_reason"]] = ["The cat. A dog", "stop"]
    rewards, _, _ = rewards_of(folder, tmp_path, cut, weights={**ONE, "end": 1.0})
    for place, text in ((2, "The cat."), (3, "The cat. A dog")):
        row = cut.loc[place]
        key = row["prompt_id"], row["heuristic_id"], row["seed"]
        assert rewards[key] == pytest.approx(plain(ASKED[row["prompt_id"]], text)[1], abs=1e-4)


def test_what_is_too_long_fails_and_enters_no_rating(folder, tmp_path):
    long = ANSWERS.copy()
    long.loc[2, "text"] = "word " * 400
    config = judge_config("likelihood", weights={**ONE, "answer": 1.0, "question": 1.0})
    inputs = {"judge_model": folder}
    with open_judge(config, PROMPTS, inputs, tmp_path / "out", tmp_path / "log") as judge:
        labels, summary = in_whole(label_quality, [long], judge, TOURNAMENT, 1.0, seed=1)
    assert [reason for _, reason in judge.failures] == ["longer than 120 tokens"]
    assert np.isnan(labels["reward"][2]) and np.isnan(labels["rating"][2]) and labels["comparisons"][2] == 0
    # Of the four others, two read the same.
    assert summary["failed"] == 3 and summary["judge"]["kind"] == "likelihood"


def test_a_killed_job_goes_on(folder, tmp_path, monkeypatch):
    expected, measured, _ = rewards_of(folder, tmp_path)
    score = LikelihoodScorer.score

    def killed(self, questions):
        yield from islice(score(self, questions), 8)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(LikelihoodScorer, "score", killed)
        rewards_of(folder, tmp_path)
    rewards, again, _ = rewards_of(folder, tmp_path)
    assert rewards == pytest.approx(expected, abs=1e-4)
    assert (again["calls_found"], again["calls_made"]) == (8, measured["calls_made"] - 8)
    assert not (tmp_path / "out.part").exists()


class ImitatedPool:
    """Replies as SGLang does to /generate, from a table of log-probabilities by token; fails as it is told."""

    def __init__(self, faults=None):
        self.sent, self.faults = [], faults or {}

    def run(self, path, payloads):
        for index, payload in enumerate(payloads):
            self.sent.append((path, payload))
            ids, start = payload["input_ids"], payload["logprob_start_len"]
            read = [
                [None if place == start else -float(ids[place]), ids[place], None] for place in range(start, len(ids))
            ]
            ends = [[-0.5 * token, token, None] for token in payload["token_ids_logprob"]]
            meta = {"input_token_logprobs": read, "output_token_ids_logprobs": [ends]}
            reply = json.loads(json.dumps({"meta_info": self.faults.get(ids[-1], lambda meta: meta)(meta)}))
            yield index, Reply(reply)


def test_likelihoods_from_a_server():
    pool = ImitatedPool()
    questions = [Continuation((9, 8, 1, 2), 2), Continuation((9, 8, 3), 3), Continuation((9, 4), 1)]
    found = dict(served_likelihoods(pool, [2, 4]).score(questions))
    end = np.logaddexp(-1.0, -2.0)
    assert found[0].values == pytest.approx((-1.5, end))
    assert found[1].values == pytest.approx((end, end))  # an empty answer
    assert found[2].values == pytest.approx((-4.0, end))
    path, payload = pool.sent[1]
    assert path == "/generate" and payload["input_ids"] == [9, 8, 1, 2] and payload["logprob_start_len"] == 1
    assert payload["return_logprob"] and payload["sampling_params"]["max_new_tokens"] == 1


def without_values(meta):
    return {**meta, "input_token_logprobs": [[None, token, None] for _, token, _ in meta["input_token_logprobs"]]}


def shifted(meta):
    return {**meta, "input_token_logprobs": meta["input_token_logprobs"][1:]}


def other_tokens(meta):
    return {**meta, "input_token_logprobs": [[value, 7, None] for value, *_ in meta["input_token_logprobs"]]}


def test_a_server_that_scores_other_tokens_gives_no_likelihood():
    pool = ImitatedPool({1: shifted, 2: without_values, 3: lambda meta: {}, 4: other_tokens})
    found = dict(served_likelihoods(pool, [2]).score([Continuation((9, 8, last), 1) for last in (1, 2, 3, 4)]))
    assert "of other tokens" in found[0].error and "TypeError" in found[1].error and "KeyError" in found[2].error
    assert "of other tokens" in found[3].error
    assert all(isinstance(result, Result) and not result.values for result in found.values())
