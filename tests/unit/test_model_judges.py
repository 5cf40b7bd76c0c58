"""Judges that are models: rewards and probabilities equal to plain loops, failures that are no opinions, resuming."""

import json
from collections import Counter
from contextlib import contextmanager, nullcontext
from itertools import combinations, islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from adaptive_samplers.config.model.judges import ScalarSettings
from adaptive_samplers.config.model.labels import Tournament
from adaptive_samplers.config.typed import typed_section
from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_number
from adaptive_samplers.labels.judges import in_process
from adaptive_samplers.labels.judges.build import candidate_columns, open_judge
from adaptive_samplers.labels.judges.calls import Call, Calls, Result
from adaptive_samplers.labels.judges.encoding import ChatEncoder
from adaptive_samplers.labels.judges.in_process import LabelScorer, RewardScorer, shared_prefix
from adaptive_samplers.labels.judges.pairwise import PairwiseJudge, fill_template
from adaptive_samplers.labels.judges.served import served_labels, served_rewards
from adaptive_samplers.labels.quality import label_quality
from adaptive_samplers.labels.tournament import Comparison, bradley_terry
from adaptive_samplers.messages import written_out
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.partfile import PartFile
from adaptive_samplers.serving.pool import Reply
from adaptive_samplers.tables import KEY, read_table, write_table
from support import in_whole
from tiny_judges import PROMPTS, QUESTIONS, TEMPLATE, judge_config, tiny_answers, write_judge

ANSWERS = tiny_answers()
TOURNAMENT = Tournament(schedule="round_robin", regularization=0.1)


@pytest.fixture(scope="session")
def reward_folder(tiny_model_folder, tmp_path_factory):
    return write_judge(tiny_model_folder, tmp_path_factory.mktemp("reward") / "model", "scalar")


@pytest.fixture(scope="session")
def language_folder(tiny_model_folder, tmp_path_factory):
    return write_judge(tiny_model_folder, tmp_path_factory.mktemp("language") / "model", "pairwise")


@pytest.fixture(scope="session")
def tokenizer(tiny_model_folder):
    return ChatTokenizer(tiny_model_folder)


@contextmanager
def opened(kind, folder, place, candidates=ANSWERS, **changes):
    config = judge_config(kind, **changes)
    with open_judge(config, PROMPTS, {"judge_model": folder}, place / "out", place / "log.txt") as judge:
        judge.read(candidates)
        yield judge


def all_pairs(candidates=ANSWERS):
    answered = candidates[candidates["finish_reason"] != "error"]
    return [
        Comparison(group, first, second)
        for group, rows in answered.groupby(["prompt_id", "seed"])
        for one, other in combinations(rows["heuristic_id"], 2)
        for first, second in ((one, other), (other, one))
    ]


def text_of(comparison, player, candidates=ANSWERS):
    prompt_id, seed = comparison.group
    return candidates.set_index(KEY).loc[(prompt_id, player, seed), "text"]


def test_rewards_are_those_of_a_plain_forward(reward_folder, tokenizer, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(reward_folder)
    with opened("scalar", reward_folder, tmp_path) as judge:
        rewards, measured = judge.rewards, judge.measured()
    asked = dict(zip(PROMPTS["prompt_id"], QUESTIONS, strict=True))
    for row in ANSWERS.itertuples():
        key = (row.prompt_id, row.heuristic_id, row.seed)
        if row.finish_reason == "error":
            assert key not in rewards
            continue
        messages = [{"role": "user", "content": asked[row.prompt_id]}, {"role": "assistant", "content": row.text}]
        text = tokenizer.tokenizer.apply_chat_template(messages, tokenize=False)
        with torch.no_grad():
            logits = model(torch.tensor([tokenizer.encode(text)])).logits
        assert rewards[key] == pytest.approx(float(logits[0, 0]), abs=1e-5)
    assert np.std(list(rewards.values())) > 0.1
    # The two equal answers are one call.
    assert measured["calls_made"] == measured["answers_rated"] - 1 == len(rewards) - 1
    assert (measured["kind"], measured["model"], measured["answers_failed"]) == ("scalar", "tiny", 0)


def test_probabilities_are_those_of_a_plain_loop(language_folder, tokenizer, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(language_folder)
    label_ids = [tokenizer.encode(label)[0] for label in "AB"]
    read = set()

    def plain(comparison, first, second):
        question = QUESTIONS[int(comparison.group[0][1])]
        text = f"{question}\nA: {text_of(comparison, first)}\nB: {text_of(comparison, second)}\nBetter:"
        read.add(text)
        chat = tokenizer.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        with torch.no_grad():
            logits = model(torch.tensor([tokenizer.encode(chat)])).logits[0, -1]
        return float(logits[label_ids].softmax(-1)[0]), float(logits.softmax(-1)[label_ids].sum())

    pairs = all_pairs()
    with opened("pairwise", language_folder, tmp_path) as judge:
        found, measured = judge.compare(pairs), judge.measured()
    firsts, masses, disagreements = [], [], []
    for comparison, probability in zip(pairs, found, strict=True):
        if text_of(comparison, comparison.first) == text_of(comparison, comparison.second):
            assert probability == 0.5
            continue
        straight, mass = plain(comparison, comparison.first, comparison.second)
        turned, other_mass = plain(comparison, comparison.second, comparison.first)
        assert probability == pytest.approx((straight + 1 - turned) / 2, abs=1e-5)
        firsts += [straight, turned]
        masses += [mass, other_mass]
        disagreements.append((straight > 0.5) == (turned > 0.5))
    assert measured["position_bias"] == pytest.approx(np.mean(firsts) - 0.5, abs=1e-5)
    assert measured["label_mass"] == pytest.approx(np.mean(masses), rel=1e-4)
    assert measured["orders_disagree"] == pytest.approx(np.mean(disagreements))
    assert measured["identical_answers"] == 2 and measured["calls_made"] == len(read)
    assert np.std(found) > 0.05 and 0.1 < np.mean(disagreements) < 0.9


def test_both_orders_make_the_judge_antisymmetric(language_folder, tmp_path):
    pairs = all_pairs()
    with opened("pairwise", language_folder, tmp_path) as judge:
        found = judge.compare(pairs)
    # all_pairs has each pair in both orders, one after the other.
    np.testing.assert_allclose(found[::2] + found[1::2], 1)


def test_one_order_is_half_the_calls_and_keeps_the_order(language_folder, tmp_path):
    pairs = all_pairs()
    (tmp_path / "both").mkdir()
    with opened("pairwise", language_folder, tmp_path / "both") as judge:
        both, calls = judge.compare(pairs[::2]), judge.measured()["calls_made"]
    with opened("pairwise", language_folder, tmp_path, order="one") as judge:
        straight, half = judge.compare(pairs[::2]), judge.measured()
        turned = judge.compare(pairs[1::2])
    np.testing.assert_allclose((straight + 1 - turned) / 2, both, atol=1e-5)
    assert half["calls_made"] == calls / 2 and half["orders_disagree"] is None
    assert np.abs(straight + turned - 1).max() > 0.01


@pytest.mark.parametrize("kind", ["scalar", "pairwise"])
def test_batches_change_nothing(kind, reward_folder, language_folder, tmp_path, monkeypatch):
    folder = reward_folder if kind == "scalar" else language_folder
    results = []
    for number, (size, prefix) in enumerate([(1, 16), (3, 4), (64, 16), (64, 1000)]):
        monkeypatch.setattr(in_process, "SHORTEST_PREFIX", prefix)
        candidates = ANSWERS.sample(frac=1, random_state=number)
        (tmp_path / str(number)).mkdir()
        with opened(kind, folder, tmp_path / str(number), candidates, batch_size=size) as judge:
            results.append(judge.compare(all_pairs()))
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-5)


def test_the_last_token_counts_even_where_it_is_the_padding_token(reward_folder, tokenizer):
    scorer = RewardScorer(reward_folder, judge_config("scalar").labels.quality.judge)
    padding = scorer.model.config.pad_token_id
    sequences = [[5, 6, 7, padding], [5, 6, 7], [padding, padding], [9]]
    found = {place: result.values[0] for place, result in scorer.score(sequences)}
    for place, sequence in enumerate(sequences):
        with torch.no_grad():
            hidden = scorer.model.model(torch.tensor([sequence])).last_hidden_state[0, -1]
            assert found[place] == pytest.approx(float(scorer.model.score(hidden)), abs=1e-5)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=6))
def test_shared_prefix(sequences):
    batch = sorted(sequences)
    length = shared_prefix(batch)
    assert all(sequence[:length] == batch[0][:length] and len(sequence) > length for sequence in batch)
    shortest = min(map(len, batch))
    assert length == shortest - 1 or len({sequence[length] for sequence in batch}) > 1


class FixedScorer:
    """Answers by a function of the token ids; counts what it is asked."""

    def __init__(self, answer):
        self.answer, self.asked = answer, Counter()

    def score(self, sequences):
        for place in reversed(range(len(sequences))):
            self.asked[tuple(sequences[place])] += 1
            yield place, self.answer(sequences[place])


def pairwise_with(scorer, tokenizer, part, max_length=None, **changes):
    settings = judge_config("pairwise", **changes).labels.quality.judge
    calls = Calls(lambda: nullcontext(scorer), part, max_length)
    judge = PairwiseJudge(settings, PROMPTS, calls, ChatEncoder(tokenizer, settings))
    judge.read(ANSWERS)
    return judge


def test_position_bias_is_measured_and_cancels(tokenizer, tmp_path):
    biased = FixedScorer(lambda _: Result((float(np.log(0.6)), float(np.log(0.2)))))
    with PartFile(tmp_path / "out", "x") as part:
        judge = pairwise_with(biased, tokenizer, part)
        np.testing.assert_allclose(judge.compare(all_pairs()), 0.5)
        measured = judge.measured()
        alone = pairwise_with(biased, tokenizer, part, order="one")
        assert set(np.round(alone.compare(all_pairs()), 6)) == {0.5, 0.75}  # one half without a call
    assert measured["position_bias"] == pytest.approx(0.25) and measured["orders_disagree"] == 1
    assert measured["label_mass"] == pytest.approx(0.8)
    assert alone.measured()["position_bias"] == pytest.approx(0.25)


def flaky(token_ids):
    """Fails one call in twenty; else prefers by a hash."""
    number = content_number(list(token_ids))
    if number % 20 == 0:
        return Result(error="HTTP 500")
    return Result((-1.0 - number % 7 / 7, -1.5))


def test_failed_calls_enter_no_rating(tokenizer, tmp_path):
    candidates = tiny_answers()
    with PartFile(tmp_path / "out", "x") as part:
        judge = pairwise_with(FixedScorer(flaky), tokenizer, part)
        labels, summary = in_whole(label_quality, [candidates], judge, TOURNAMENT, 0.3, seed=3)
        outcomes = dict(zip(all_pairs(), judge.compare(all_pairs()), strict=True))
    # Of answers with the same text, the first one plays for all.
    same = candidates.groupby(["prompt_id", "seed", "text", "finish_reason"])["heuristic_id"].transform("min")
    playing = {
        (row.prompt_id, row.seed, row.heuristic_id)
        for row in candidates[same == candidates["heuristic_id"]].itertuples()
    }
    failed = [
        pair
        for pair, outcome in outcomes.items()
        if np.isnan(outcome)
        and pair.first < pair.second
        and {(*pair.group, pair.first), (*pair.group, pair.second)} <= playing
    ]
    assert summary["failed"] == len(failed) == summary["failure_reasons"]["HTTP 500"] > 2
    assert summary["equal_answers"] == 1
    assert labels["reward"].isna().all()
    for group, rows in labels.assign(player=same)[labels["comparisons"] > 0].groupby(["prompt_id", "seed"]):
        players = sorted(set(rows["player"]))
        wins = np.zeros((len(players), len(players)))
        for i, j in combinations(range(len(players)), 2):
            outcome = outcomes[Comparison(group, players[i], players[j])]
            if not np.isnan(outcome):
                wins[i, j], wins[j, i] = outcome, 1 - outcome
        places = [players.index(player) for player in rows["player"]]
        np.testing.assert_array_equal(rows["comparisons"], np.rint((wins + wins.T).sum(axis=1))[places])
        expected = bradley_terry(wins, 0.1)[0][places]
        np.testing.assert_allclose(rows["rating"], expected - expected.mean(), atol=1e-6)
    write_table("quality", labels, tmp_path / "q.parquet")
    assert len(read_table("quality", tmp_path / "q.parquet")) == len(candidates)


def test_too_many_failed_calls_end_the_stage_with_rows_and_reasons(tokenizer, tmp_path):
    with PartFile(tmp_path / "out", "x") as part:
        judge = pairwise_with(FixedScorer(flaky), tokenizer, part)
        match = (
            r"(?s)judge calls failed.*allows 1\.0%.*prompt p\d, heuristic h\d, seed \d, against heuristic h\d: HTTP 500"
        )
        with pytest.raises(UserError, match=match):
            in_whole(label_quality, [ANSWERS], judge, TOURNAMENT, 0.01, seed=3)
        assert len(list(part.rows())) > 10  # what was answered is kept for the next try


def test_calls_that_cannot_be_made_have_a_reason(tokenizer, tmp_path):
    seen = []
    scorer = FixedScorer(lambda ids: seen.append(len(ids)) or Result((float("nan"),) if len(ids) == 2 else (1.0,)))
    calls = [Call([1, 2]), Call(error="no template"), Call([1, 2, 3, 4]), Call([3]), Call([3])]
    with PartFile(tmp_path / "out", "x") as part:
        service = Calls(lambda: nullcontext(scorer), part, max_length=3)
        reasons = [result.error for result in service.answer(calls, len(calls), "test")]
        assert next(iter(part.rows()))["values"] == [1.0] and len(list(part.rows())) == 1
    assert reasons == ["the model's answer is not a finite number", "no template", "longer than 3 tokens", None, None]
    assert sorted(seen) == [1, 2]


def test_the_model_is_not_loaded_where_every_call_is_known(tokenizer, tmp_path):
    with PartFile(tmp_path / "out", "x") as part:
        scorer = FixedScorer(lambda ids: Result((float(ids[0]),)))
        list(Calls(lambda: nullcontext(scorer), part, None).answer([Call([4]), Call([5])], 2, "test"))
    with PartFile(tmp_path / "out", "x") as part, Calls(pytest.fail, part, None) as calls:
        assert [result.values for result in calls.answer([Call([5]), Call([4])], 2, "test")] == [(5.0,), (4.0,)]
        assert calls.measured() == {"calls_made": 0, "calls_found": 2}


@pytest.mark.parametrize("kind", ["scalar", "pairwise"])
def test_a_killed_job_goes_on(kind, reward_folder, language_folder, tmp_path, monkeypatch):
    scorer_class, folder = (RewardScorer, reward_folder) if kind == "scalar" else (LabelScorer, language_folder)
    score = scorer_class.score

    def killed(self, questions):
        yield from islice(score(self, questions), 8)
        raise KeyboardInterrupt

    with opened(kind, folder, tmp_path) as judge:
        expected, made = judge.compare(all_pairs()), judge.measured()["calls_made"]
    assert not (tmp_path / "out.part").exists()
    with monkeypatch.context() as patch:
        patch.setattr(scorer_class, "score", killed)
        with pytest.raises(KeyboardInterrupt), opened(kind, folder, tmp_path) as judge:
            judge.compare(all_pairs())
    with opened(kind, folder, tmp_path) as judge:
        np.testing.assert_allclose(judge.compare(all_pairs()), expected, atol=1e-5)
        assert judge.measured() | {"calls_found": 8, "calls_made": made - 8} == judge.measured()
    # Calls of another dtype are others.
    with monkeypatch.context() as patch:
        patch.setattr(scorer_class, "score", killed)
        with pytest.raises(KeyboardInterrupt), opened(kind, folder, tmp_path) as judge:
            judge.compare(all_pairs())
    with opened(kind, folder, tmp_path, dtype="bfloat16") as judge:
        judge.compare(all_pairs())
        assert judge.measured()["calls_found"] == 0


def test_what_is_too_long_for_the_model_fails(reward_folder, tmp_path):
    long = ANSWERS.copy()
    long.loc[2, "text"] = "word " * 400
    with opened("scalar", reward_folder, tmp_path, long) as judge:
        labels, summary = in_whole(label_quality, [long], judge, TOURNAMENT, 1.0, seed=1)
    name = "prompt {prompt_id}, heuristic {heuristic_id}, seed {seed}".format(**long.loc[2])
    assert judge.failures == [(name, "longer than 120 tokens")]
    assert np.isnan(labels["reward"][2]) and np.isnan(labels["rating"][2]) and labels["comparisons"][2] == 0
    # Of the four others, two read the same.
    assert summary["failed"] == 3 and summary["failure_reasons"] == {"longer than 120 tokens": 1}
    with opened("scalar", reward_folder, tmp_path, max_length=40) as judge:
        assert {reason for _, reason in judge.failures} == {"longer than 40 tokens"}
        assert 1 <= len(judge.failures) < len(judge.rewards)


def test_models_that_cannot_judge(tiny_model_folder, language_folder, reward_folder, tmp_path):
    with pytest.raises(UserError, match=r"lacks the weights 'score.weight', so it is no scalar judge"):
        opened("scalar", language_folder, tmp_path).__enter__()
    two = write_judge(tiny_model_folder, tmp_path / "two", "scalar", labels=2)
    with pytest.raises(UserError, match=r"one label.*with 2 labels"):
        opened("scalar", two, tmp_path).__enter__()
    with pytest.raises(UserError, match="no language model's tokenizer"):
        opened("scalar", tmp_path, tmp_path).__enter__()
    with pytest.raises(UserError, match=r"labels: 'Yes' is \d tokens of 'tiny'"):
        opened("pairwise", language_folder, tmp_path, labels=["Yes", "B"]).__enter__()
    wanted = r"lacks the weights 'lm_head.weight', so it is no pairwise judge"
    with pytest.raises(UserError, match=wanted), opened("pairwise", reward_folder, tmp_path) as judge:
        judge.compare(all_pairs())


def test_a_chat_template_that_refuses(tokenizer, language_folder):
    strict, named = ChatTokenizer(language_folder), typed_section({"name": "tiny"}, ScalarSettings)
    strict.tokenizer.chat_template = "{{ raise_exception('no system message') }}"
    call = ChatEncoder(strict, named).finished([{"role": "system", "content": "x"}])
    assert call.error == "the model's chat template refuses the conversation (no system message)"
    strict.tokenizer.chat_template = None
    with pytest.raises(UserError, match="'tiny' has no chat template"):
        ChatEncoder(strict, named)


def test_templates_are_filled_in_once():
    answers = ("{second_answer} {x}", "b")
    assert fill_template(TEMPLATE, "Why {prompt}?", answers, ["1", "2"]) == (
        "Why {prompt}?\n1: {second_answer} {x}\n2: b\nBetter:"
    )
    assert written_out([{"role": "user", "content": "Hi"}]) == "Hi"
    both = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    assert written_out(both) == "system: Be kind.\n\nuser: Hi"


class FixedPool:
    """A pool whose replies follow from the payload's last token."""

    def __init__(self, replies):
        self.replies, self.sent = replies, []

    def run(self, path, payloads):
        for index, payload in enumerate(payloads):
            self.sent.append((path, payload))
            yield index, self.replies[payload["input_ids"][-1]]


def test_rewards_from_a_server():
    replies = {
        1: Reply({"embedding": [0.5]}),
        2: Reply(error="too long"),
        3: Reply({"embedding": [1, 2]}),
        4: Reply([]),
    }
    pool = FixedPool(replies)
    found = dict(served_rewards(pool).score([[9, 4], [9, 3], [9, 2], [9, 1]]))
    assert found[3] == Result((0.5,)) and found[2] == Result(error="too long")
    assert "2 numbers instead of one" in found[1].error and "cannot be read" in found[0].error
    assert pool.sent[0] == ("/classify", {"input_ids": [9, 1]})  # those that begin alike are sent one after the other


def test_label_probabilities_from_a_server():
    information = {"output_token_ids_logprobs": [[[-2.5, 8, None], [-0.5, 7, None]]]}
    pool = FixedPool({1: Reply({"meta_info": information}), 2: Reply({"meta_info": {}})})
    found = dict(served_labels(pool, [7, 8]).score([[1], [2]]))
    assert found[0] == Result((-0.5, -2.5)) and "KeyError" in found[1].error
    path, payload = pool.sent[0]
    assert path == "/generate" and payload["token_ids_logprob"] == [7, 8] and payload["return_logprob"]
    assert payload["sampling_params"]["max_new_tokens"] == 1 and "text" not in payload


def test_columns_that_a_judge_reads():
    assert candidate_columns("scalar") == candidate_columns("pairwise") == [*KEY, "text", "finish_reason"]
    assert {"end_logprobs", "token_ids"} < set(candidate_columns("feature_reward"))


def test_conversations_of_several_messages(reward_folder, tmp_path):
    prompts = PROMPTS.assign(
        messages=json.dumps([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}])
    )
    config = judge_config("scalar")
    with open_judge(config, prompts, {"judge_model": reward_folder}, tmp_path / "o", tmp_path / "l") as judge:
        judge.read(ANSWERS)
        assert len(judge.rewards) == (ANSWERS["finish_reason"] != "error").sum()
