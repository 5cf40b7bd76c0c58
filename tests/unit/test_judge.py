"""Features by hand, the reward model against maximum likelihood by scipy, and its report."""

import json

import numpy as np
import pandas as pd
import pytest
from golden.inputs import PROMPTS, candidates, embeddings
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_expit

from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.judges.feature_reward import (
    LIMITS,
    TEXT_FEATURES,
    TEXT_LIMITS,
    FeatureReward,
    feature_reward_judge,
    limits_of,
    train_feature_reward,
)
from adaptive_samplers.labels.judges.features import (
    OF_TEXT,
    WINDOW,
    answer_features,
    distinct_2,
    is_finished,
    texts_to_embed,
    trim_to_sentence,
    word_variety,
)
from adaptive_samplers.labels.judges.registry import DEFAULT_FEATURES as FEATURES
from adaptive_samplers.labels.judges.registry import JUDGE_FEATURES, has_likelihood


def ends_of(pieces):
    return np.cumsum([len(piece) for piece in pieces]).tolist()


@pytest.mark.parametrize(
    ("pieces", "text", "kept"),
    [
        (["One", " end", ".", " And", " then"], "One end.", 3),
        (["One", " end", "."], "One end.", 3),
        (["It", " is", " late", "!", " Go", "?", "\n", "She"], "It is late! Go?", 6),
        (["He", " said", ' "go', '."', " Then"], 'He said "go."', 4),
        # The line break belongs to the token of the full stop.
        (["One", " end", ".\n\n", "Next"], "One end.", 3),
        (["No", " end", " here"], "No end here", 3),
        (["It", " costs", " 3", ".", "5", " now"], "It costs 3.5 now", 6),
        (["Done", ".", "\n", "2", ".", " Next"], "Done.", 2),
        (["I", " met", ".", " Dr", ".", " Who"], "I met.", 3),
        (["Fine", ".", " Such", " as", " e.g", ".", " this"], "Fine.", 2),
        (["In", " 1984", ".", " Then"], "In 1984.", 3),
        (["Wait", "...", " what"], "Wait...", 2),
        (["終わり", "。", "次"], "終わり。", 2),
        ([], "", 0),
    ],
)
def test_cut_answers_are_trimmed_to_their_last_sentence(pieces, text, kept):
    whole = "".join(pieces)
    assert trim_to_sentence(whole, ends_of(pieces), "length") == (text, kept)
    assert trim_to_sentence(whole, ends_of(pieces), "stop") == (whole, len(pieces))


def test_distinct_2():
    assert distinct_2("a b a b") == pytest.approx(2 / 3)
    assert distinct_2("the the the the the") == pytest.approx(1 / 4)
    assert distinct_2("all words differ here") == 1
    assert distinct_2("one") == distinct_2("") == 1


@given(st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), max_size=60))
def test_word_variety_is_the_mean_over_windows(words):
    starts = range(max(1, len(words) - WINDOW + 1))
    windows = [words[start : start + WINDOW] for start in starts]
    expected = np.mean([len(set(window)) / len(window) for window in windows]) if words else 1.0
    assert word_variety(" ".join(words)) == pytest.approx(expected)


def test_word_variety_does_not_fall_with_length_and_ignores_case_and_punctuation():
    words = [f"word{number}" for number in range(WINDOW)]
    assert word_variety(" ".join(words)) == word_variety(" ".join(words * 9)) == 1
    assert word_variety("Stop, stop! STOP.") == pytest.approx(1 / 3)
    assert word_variety("") == word_variety("...") == 1


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        ("It is late.", True),
        ("It is late!\n", True),
        ('He said "go."', True),
        ("終わり。", True),
        ("It is", False),
        ("It is late. And", False),
        ("Take these:\n1. Salt\n2.", False),
        ("I met Dr.", False),
        ("42", False),
        ("", False),
    ],
)
def test_a_text_is_finished_where_a_sentence_ends(text, finished):
    assert is_finished(text) == float(finished)


def test_features_without_a_likelihood_do_not_look_at_log_probabilities():
    text = "One two. One two."
    names = ("finished", "relevance", "distinct_2", "word_variety")
    found = answer_features(text, None, None, None, "stop", 0.25, names)
    np.testing.assert_allclose(found, [1.0, 0.25, 2 / 3, 0.5])
    cut = answer_features(text + " One", None, None, None, "length", 0.25, names)
    np.testing.assert_array_equal(cut, found)
    assert answer_features(text + " One", None, None, None, "stop", 0.25, names)[0] == 0
    assert np.isnan(answer_features(text, None, None, None, "error", 0.25, names)).all()


def test_features_are_in_the_order_that_is_asked_for():
    arguments = ("One two.", [-1.0, -3.0], [-9.0, -8.0, -0.5], [3, 8], "stop", 0.25)
    whole = dict(zip(JUDGE_FEATURES, answer_features(*arguments, tuple(JUDGE_FEATURES)), strict=True))
    assert whole["mean_logprob"] == -2 and whole["end_logprob"] == -0.5 and whole["finished"] == 1
    names = ("word_variety", "end_logprob", "relevance")
    np.testing.assert_array_equal(answer_features(*arguments, names), [whole[name] for name in names])
    assert set(OF_TEXT) | {"relevance"} == {name for name, likelihood in JUDGE_FEATURES.items() if not likelihood}


def test_features_of_finished_and_cut_answers():
    pieces = ["One", " two", ".", " One", " two", " One"]
    token_logprobs, end_logprobs = [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0], [-10.0, -9.0, -8.0, -0.5, -7.0, -6.0, -4.0]
    arguments = ("".join(pieces), token_logprobs, end_logprobs, ends_of(pieces))
    finished = answer_features(*arguments, "stop", 0.25)
    np.testing.assert_allclose(finished, [0.25, -3.5, -4.0, 1.0])
    cut = answer_features(*arguments, "length", 0.25)
    np.testing.assert_allclose(cut, [0.25, -2.0, -0.5, 1.0])
    assert np.isnan(answer_features(*arguments, "error", 0.25)).all()


def test_distinct_2_is_that_of_the_trimmed_text():
    pieces = ["a", " b", " c", ".", " a", " b", " a", " b"]
    arguments = ("".join(pieces), [-1.0] * 8, [-1.0] * 9, ends_of(pieces))
    assert answer_features(*arguments, "length", 0.0)[3] == 1
    assert answer_features(*arguments, "stop", 0.0)[3] < 1


def test_in_an_empty_answer_the_end_is_all_that_was_drawn():
    np.testing.assert_allclose(answer_features("", [], [-1.5], [], "stop", 0.1), [0.1, -1.5, -1.5, 1.0])
    assert np.isnan(answer_features("", [], [-1.5], [], "error", 0.1)).all()


@pytest.mark.parametrize(
    ("tokens", "ends", "offsets"),
    [([-1.0], [], [1]), ([-1.0], [-1.0], [1]), ([-1.0], [-1.0] * 3, [1]), ([], [], []), ([-1.0], [-1.0] * 2, [])],
)
def test_one_end_more_than_tokens_is_needed(tokens, ends, offsets):
    with pytest.raises(ValueError, match="one of each per token, and one end more"):
        answer_features("a", tokens, ends, offsets, "stop", 0.1)


@pytest.fixture
def model():
    return FeatureReward(
        weights=np.array([1.0, -2.0, 0.5, 3.0]),
        means=np.array([0.5, -2.0, -3.0, 0.9]),
        scales=np.array([0.1, 1.0, 2.0, 0.05]),
    )


def test_reward_is_the_weighted_sum_of_standardized_features(model):
    features = np.array([[0.6, -1.0, -5.0, 0.9], [0.5, -2.0, -3.0, 0.9]])
    np.testing.assert_allclose(model.reward(features), [1.0 - 2.0 - 0.5, 0.0])
    assert model.reward(np.empty((0, 4))).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", range(4))
def test_a_feature_that_is_missing_makes_a_failed_call(model, bad, column):
    features = np.tile([0.6, -1.0, -5.0, 0.9], (2, 1))
    features[1, column] = bad
    rewards = model.reward(features)
    assert np.isfinite(rewards[0]) and np.isnan(rewards[1])


def test_saving_and_loading_change_nothing(model, tmp_path):
    model.save(tmp_path / "judge.json")
    loaded = FeatureReward.load(tmp_path / "judge.json")
    features = np.random.default_rng(0).normal(size=(20, 4))
    np.testing.assert_array_equal(loaded.reward(features), model.reward(features))
    assert json.loads((tmp_path / "judge.json").read_text())["features"] == list(FEATURES)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}"]
    + [
        json.dumps({"weights": [1.0], "means": [1.0], "scales": [1.0], "features": features})
        for features in ([], ["magic"], ["relevance", "finished"], None)
    ],
)
def test_a_file_that_is_no_judge_is_a_clear_error(tmp_path, content):
    path = tmp_path / "judge.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"judge\.json"):
        FeatureReward.load(path)
    with pytest.raises(UserError, match="absent"):
        FeatureReward.load(tmp_path / "absent")


def test_a_judge_of_text_alone_rates_answers_by_their_text():
    """Another model's log-probabilities, or none at all, change no reward."""
    table = candidates()
    judge = FeatureReward(np.array([1.0, 0.5, 2.0, 0.25]), np.zeros(4), np.ones(4), TEXT_FEATURES)
    vectors = embeddings(texts_to_embed(PROMPTS, table))

    def rewards(reward, answers):
        rated = feature_reward_judge(reward, PROMPTS, lambda texts: vectors, lambda ids: "x" * len(ids))
        rated.read(answers)
        return rated.rewards

    found = rewards(judge, table)
    assert len(set(found.values())) > 2
    nothing = table.assign(token_logprobs=None, end_logprobs=None, token_ids=None)
    assert rewards(judge, nothing) == found
    halves = [None if values is None else np.asarray(values) / 2 for values in table["token_logprobs"]]
    colder = table.assign(token_logprobs=halves)
    by_likelihood = FeatureReward(judge.weights, judge.means, judge.scales)
    assert rewards(judge, colder) == found and rewards(by_likelihood, colder) != rewards(by_likelihood, table)


def test_limits_say_what_was_measured():
    assert not has_likelihood(TEXT_FEATURES) and has_likelihood(FEATURES)
    assert limits_of(TEXT_FEATURES[::-1]) == TEXT_LIMITS != LIMITS
    # The judge that reads log-probabilities says what that means, and the other one that it is not free of it.
    assert "explained 78%" in LIMITS and "no sign that the colder one is better" in LIMITS
    assert "still explained 52%" in TEXT_LIMITS and "cannot tell whether an answer is right" in TEXT_LIMITS
    assert "rated higher" in limits_of(["mean_logprob"]) and "not measured" in limits_of(["mean_logprob"])
    assert "rated higher" not in limits_of(["relevance"]) and "not measured" in limits_of(["relevance"])


CORRUPTIONS = ("shuffled", "truncated", "repeated")


def pair(prompt, corruption, chosen, rejected):
    row = {"prompt": prompt, "corruption": corruption}
    for side, values in (("chosen", chosen), ("rejected", rejected)):
        row |= {f"{side}_{name}": value for name, value in zip(FEATURES, values, strict=True)}
    return row


def pairs_of(prompt_count, seed=0, effect=1.0):
    """Pairs whose better answer leads by a random amount in each feature, with a different scale per feature."""
    generator = np.random.default_rng(seed)
    scales, offsets = np.array([0.1, 1.0, 3.0, 0.05]), np.array([0.5, -2.0, -4.0, 0.9])
    rows = []
    for prompt in range(prompt_count):
        for corruption in CORRUPTIONS:
            rejected = generator.normal(size=4)
            chosen = rejected + effect * np.array([1.0, 0.5, 0.8, 0.2]) + generator.normal(size=4)
            rows.append(pair(f"prompt {prompt}", corruption, offsets + scales * chosen, offsets + scales * rejected))
    return pd.DataFrame(rows)


def arrays_of(pairs):
    return [pairs[[f"{side}_{name}" for name in FEATURES]].to_numpy() for side in ("chosen", "rejected")]


@pytest.mark.parametrize("regularization", [0.01, 0.1, 5.0])
def test_weights_maximize_the_penalized_likelihood(regularization):
    pairs = pairs_of(30)
    model, _ = train_feature_reward(pairs, regularization)
    chosen, rejected = arrays_of(pairs)
    both = np.concatenate([chosen, rejected])
    np.testing.assert_allclose(model.means, both.mean(axis=0))
    np.testing.assert_allclose(model.scales, both.std(axis=0))
    differences = (chosen - rejected) / both.std(axis=0)

    def loss(weights):
        # Both directions of a pair have the same likelihood.
        return -2 * log_expit(differences @ weights).sum() + regularization * (weights**2).sum() / 2

    best = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose(model.weights, best.x, atol=1e-4)
    np.testing.assert_allclose(model.reward(chosen) - model.reward(rejected), differences @ model.weights)


def test_report_is_cross_validated_over_prompts_and_corruptions():
    pairs = pairs_of(40, effect=2.0)
    model, report = train_feature_reward(pairs, 0.1)
    assert (report["pairs"], report["left_out"], report["prompts"], report["folds"]) == (120, 0, 40, 5)
    assert set(report["accuracy_by_corruption"]) == set(report["accuracy_corruption_left_out"]) == set(CORRUPTIONS)
    assert 0.85 < report["accuracy"] <= 1
    assert report["accuracy"] == pytest.approx(np.mean(list(report["accuracy_by_corruption"].values())))
    assert report["weights"] == dict(zip(FEATURES, model.weights.tolist(), strict=True))
    assert report["limits"] == limits_of(FEATURES) == LIMITS
    json.dumps(report, allow_nan=False)


def test_a_judge_is_trained_on_the_features_it_is_to_have(tmp_path):
    pairs = pairs_of(30)
    for side in ("chosen", "rejected"):
        pairs[f"{side}_finished"] = pairs[f"{side}_end_logprob"]
    names = ("distinct_2", "finished")
    model, report = train_feature_reward(pairs, 0.1, names)
    assert model.features == tuple(report["weights"]) == names and model.weights.shape == (2,)
    # The same numbers under another name, beside a feature of the default.
    reference, _ = train_feature_reward(pairs, 0.1, ("end_logprob", "distinct_2"))
    np.testing.assert_allclose(model.weights[::-1], reference.weights, rtol=1e-6)
    model.save(tmp_path / "judge.json")
    loaded = FeatureReward.load(tmp_path / "judge.json")
    assert loaded.features == names
    np.testing.assert_array_equal(loaded.reward([[0.5, 1.0]]), model.reward([[0.5, 1.0]]))


def test_cross_validation_does_not_see_the_prompt_it_is_tested_on():
    # Each prompt's answer to what is better is a coin of its own, which only its own pairs reveal.
    generator = np.random.default_rng(3)
    rows = []
    for prompt in range(60):
        flip = generator.choice([-1.0, 1.0])
        for corruption in CORRUPTIONS:
            chosen = np.array([flip, 0.0, 0.0, 0.0]) + 0.01 * generator.normal(size=4)
            rows.append(pair(str(prompt), corruption, chosen, -chosen))
    _, report = train_feature_reward(pd.DataFrame(rows), 0.1)
    assert 0.25 < report["accuracy"] < 0.75


def test_leaving_a_corruption_out_shows_what_does_not_transfer():
    pairs = pairs_of(40, effect=3.0)
    opposite = pairs["corruption"] == "repeated"
    for name in FEATURES:
        columns = [f"chosen_{name}", f"rejected_{name}"]
        pairs.loc[opposite, columns] = pairs.loc[opposite, columns[::-1]].to_numpy()
    _, report = train_feature_reward(pairs, 0.1)
    assert report["accuracy_corruption_left_out"]["repeated"] < 0.2


def test_one_corruption_cannot_be_left_out():
    pairs = pairs_of(10).assign(corruption="shuffled")
    _, report = train_feature_reward(pairs, 0.1)
    assert report["accuracy_corruption_left_out"] == {"shuffled": None}


def test_equal_answers_are_not_counted_as_right():
    pairs = pairs_of(10)
    for name in FEATURES:
        pairs[f"rejected_{name}"] = pairs[f"chosen_{name}"]
    model, report = train_feature_reward(pairs, 0.1)
    np.testing.assert_allclose(model.weights, 0, atol=1e-9)
    assert report["accuracy"] == 0


def test_pairs_without_features_are_left_out_and_counted():
    pairs = pairs_of(12)
    reference, _ = train_feature_reward(pairs.iloc[3:], 0.1)
    pairs.loc[:2, ["chosen_relevance"]] = np.nan
    model, report = train_feature_reward(pairs, 0.1)
    assert (report["pairs"], report["left_out"], report["prompts"]) == (33, 3, 11)
    np.testing.assert_allclose(model.weights, reference.weights)


def test_a_feature_that_never_varies_has_no_weight():
    pairs = pairs_of(12).assign(chosen_distinct_2=1.0, rejected_distinct_2=1.0)
    model, _ = train_feature_reward(pairs, 0.1)
    assert model.weights[3] == pytest.approx(0, abs=1e-9) and np.isfinite(model.weights).all()


def test_few_prompts_lower_the_folds_and_one_is_too_few():
    assert train_feature_reward(pairs_of(3), 0.1)[1]["folds"] == 3
    with pytest.raises(UserError, match="usable pairs of 1 prompts"):
        train_feature_reward(pairs_of(1), 0.1)
