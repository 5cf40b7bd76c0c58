"""Quality labels from candidates to ratings; and the judge's pairs as they are read."""

import json

import choix
import numpy as np
import pandas as pd
import pytest

from adaptive_samplers.config.model.labels import Tournament
from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_id, content_number
from adaptive_samplers.labels.judges.base import RewardJudge
from adaptive_samplers.labels.judges.feature_reward import FeatureReward, feature_reward_judge
from adaptive_samplers.labels.judges.features import TokenEnds, features_of, texts_to_embed
from adaptive_samplers.labels.judges.training_pairs import read_pairs
from adaptive_samplers.labels.quality import label_quality
from adaptive_samplers.labels.quality_report import merge_summaries
from adaptive_samplers.labels.tournament import Comparison
from adaptive_samplers.tables import KEY, join_tables, read_table, write_table
from support import in_whole

WORDS = ["One", " two", ".", " three", " four", " one", " two", "!"]
TOURNAMENT = Tournament(schedule="round_robin", regularization=0.1)
# Only the relevance counts here, so that rewards are known: 10 times it.
REWARD = FeatureReward(np.array([10.0, 0.0, 0.0, 0.0]), np.zeros(4), np.ones(4))


def decode(token_ids):
    return "".join(WORDS[token] for token in token_ids)


PROMPTS = pd.DataFrame(
    {
        "prompt_id": ["a", "b"],
        "messages": [
            json.dumps([{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Question {i}"}])
            for i in "ab"
        ],
    }
)


def candidate(prompt, heuristic, seed, token_ids, finish_reason="stop"):
    failed = finish_reason == "error"
    return {
        "prompt_id": prompt,
        "heuristic_id": heuristic,
        "seed": seed,
        "token_ids": [] if failed else token_ids,
        "text": "" if failed else decode(token_ids),
        "finish_reason": finish_reason,
        "token_logprobs": None if failed else [-1.0 - token for token in token_ids],
        "end_logprobs": None if failed else [-9.0, *(-0.5 * position for position in range(len(token_ids)))],
    }


CANDIDATES = pd.DataFrame(
    [
        candidate("b", "h1", 0, [0, 1, 2]),
        candidate("a", "h2", 0, [0, 1, 2, 3, 4], "length"),
        candidate("a", "h1", 0, [3, 4]),
        candidate("a", "h3", 0, [], "error"),
        candidate("b", "h2", 0, []),
        candidate("a", "h1", 1, [5, 6, 7]),
        candidate("a", "h2", 1, [5, 6]),
    ]
)


def embeddings_of(texts):
    """A unit vector for each text; the angle to the questions' common one follows from the text's length."""
    rows = []
    for text in texts:
        angle = 0.0 if text.startswith("Question") else 0.3 + 0.05 * len(text)
        rows.append({"text_id": content_id(text), "vector": [np.cos(angle), np.sin(angle)]})
    return pd.DataFrame(rows)


EMBEDDINGS = embeddings_of(texts_to_embed(PROMPTS, CANDIDATES))


def judge():
    return feature_reward_judge(REWARD, PROMPTS, lambda texts: EMBEDDINGS, decode)


def test_texts_to_embed_are_questions_answers_and_what_the_judge_sees():
    assert texts_to_embed(PROMPTS, CANDIDATES) == {
        "Question a",
        "Question b",
        "One two.",
        "One two. three four",  # cut at the limit: judged up to its last sentence, the text above
        " three four",
        "",
        " one two!",
        " one two",
    }


def test_token_ends():
    assert list(TokenEnds([0, 1, 2], "length", decode)) == [3, 7, 8]
    assert list(TokenEnds([0, 1, 2], "stop", decode)) == [0, 0, 0]


def test_features_by_hand():
    features = features_of(PROMPTS, CANDIDATES, EMBEDDINGS, decode)
    assert features.shape == (7, 4) and np.isnan(features[3]).all()
    # Cut at the limit: three tokens, `One two.`
    np.testing.assert_allclose(features[1], [np.cos(0.3 + 0.05 * 8), -2.0, -1.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(features[0], features[1], rtol=1e-6)
    np.testing.assert_allclose(features[2], [np.cos(0.3 + 0.05 * 11), -4.5, -0.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose(features[4], [np.cos(0.3), -9.0, -9.0, 1.0], rtol=1e-6)


def test_failed_answers_alone():
    failed = CANDIDATES[CANDIDATES["finish_reason"] == "error"]
    assert np.isnan(features_of(PROMPTS, failed, EMBEDDINGS, decode)).all()
    labels, summary = in_whole(label_quality, [failed], judge(), TOURNAMENT, 0.0, seed=1)
    assert labels["rating"].isna().all() and summary["calls"] == 0


def test_ratings_follow_the_rewards_within_their_group(tmp_path):
    labels, summary = in_whole(label_quality, [CANDIDATES], judge(), TOURNAMENT, 0.0, seed=1)
    assert labels[KEY].equals(CANDIDATES[KEY])  # in the order of the candidates
    expected = 10 * features_of(PROMPTS, CANDIDATES, EMBEDDINGS, decode)[:, 0]
    np.testing.assert_allclose(labels["reward"], expected)
    for _, group in labels.dropna(subset="rating").groupby(["prompt_id", "seed"]):
        assert group["rating"].sum() == pytest.approx(0, abs=1e-6) and len(group) == 2
        assert group["rating"].rank().tolist() == group["reward"].rank().tolist()
        assert (group["comparisons"] == 1).all()
    failed = labels[labels["heuristic_id"] == "h3"].iloc[0]
    assert np.isnan(failed["rating"]) and np.isnan(failed["reward"]) and failed["comparisons"] == 0
    assert (summary["groups"], summary["calls"], summary["failed"]) == (3, 3, 0)
    assert summary["judge"] == {"kind": "feature_reward", "answers_rated": 6, "answers_failed": 0}
    write_table("quality", labels, tmp_path / "q.parquet")
    assert read_table("quality", tmp_path / "q.parquet")["rating"].isna().sum() == 1


def test_answers_that_read_the_same_are_one_player():
    same = pd.DataFrame(
        [
            candidate("a", "h4", 0, [0, 1]),
            candidate("a", "h2", 0, [0, 1]),
            candidate("a", "h3", 0, [0, 1], "length"),  # cut at the limit: not the same
            candidate("a", "h1", 0, [3, 4]),
            candidate("a", "h5", 0, [], "error"),
            candidate("a", "h2", 1, [0, 1]),
            candidate("a", "h2", 2, [0, 1]),
            candidate("a", "h4", 2, [0, 1]),
        ]
    )
    asked = []

    class Judge(RewardJudge):
        def compare(self, comparisons):
            asked.extend(comparisons)
            return super().compare(comparisons)

    rewards = {("a", f"h{number}", 0): reward for number, reward in ((1, 1.0), (2, 0.0), (3, -1.0), (4, 99.0))}
    judge = Judge(lambda answered: (rewards, {}), {})
    labels, summary = in_whole(label_quality, [same], judge, TOURNAMENT, 0.0, seed=1)
    assert {frozenset(c[1:]) for c in asked} == {frozenset(pair) for pair in (("h1", "h2"), ("h1", "h3"), ("h2", "h3"))}
    assert summary["calls"] == 3 and summary["equal_answers"] == 2
    rating = labels.set_index(["heuristic_id", "seed"])["rating"]
    assert rating["h4", 0] == rating["h2", 0] and rating["h1", 0] > rating["h2", 0] > rating["h3", 0]
    assert rating.loc[:, 0].sum() == pytest.approx(0, abs=1e-9)
    assert labels["comparisons"].tolist() == [2, 2, 2, 2, 0, 0, 0, 0]
    # Nothing but the same answer: as good as each other, which takes no comparison.
    assert (labels.loc[labels["seed"] == 2, ["rating", "rating_stderr"]] == 0).all(axis=None)
    assert np.isnan(rating["h5", 0]) and np.isnan(rating["h2", 1])  # failed, and without an opponent


def test_candidates_as_their_table_gives_them(tmp_path):
    more = {"prompt_token_ids": [[1]] * 7, "sample_seed": 1, "engine": "test", "error": None}
    write_table("candidates", CANDIDATES.assign(**more), tmp_path / "c.parquet")
    table = read_table("candidates", tmp_path / "c.parquet", [*CANDIDATES.columns])
    features = features_of(PROMPTS, table, EMBEDDINGS, decode)
    np.testing.assert_allclose(features, features_of(PROMPTS, CANDIDATES, EMBEDDINGS, decode), rtol=1e-6)


def test_failed_judge_calls_are_no_ties():
    broken = CANDIDATES.copy()
    broken.at[0, "token_logprobs"] = [-1.0, np.nan, -1.0]
    match = r"(?s)1 of 3 judge calls failed \(33\.3%\).*allows 30\.0%.*prompt b, heuristic h1, seed 0: a feature is not"
    with pytest.raises(UserError, match=match):
        in_whole(label_quality, [broken], judge(), TOURNAMENT, 0.3, seed=1)
    labels, summary = in_whole(label_quality, [broken], judge(), TOURNAMENT, 0.34, seed=1)
    assert summary["failed"] == 1 and labels[labels["prompt_id"] == "b"]["rating"].isna().all()
    assert summary["failure_reasons"] == {"a feature is not a finite number": 1}
    assert np.isnan(labels["reward"][0]) and labels["reward"].notna().sum() == 5


def test_probabilities_of_a_reward_judge():
    rewards = {("p", "a", 0): 2.0, ("p", "b", 0): -1.0, ("p", "c", 0): 2.0, ("p", "a", 1): 0.5}
    judge = RewardJudge(lambda answered: (rewards, {("p", "d", 0): "too long"}), {"kind": "test"})
    judge.read(CANDIDATES)
    pairs = [("a", "b"), ("b", "a"), ("a", "c"), ("a", "d"), ("d", "a")]
    found = judge.compare([Comparison(("p", 0), *pair) for pair in pairs])
    np.testing.assert_allclose(found, [1 / (1 + np.exp(-3)), 1 / (1 + np.exp(3)), 0.5, np.nan, np.nan])
    assert judge.compare([]).shape == (0,)
    assert judge.failures == [("prompt p, heuristic d, seed 0", "too long")]
    assert judge.measured() == {"kind": "test", "answers_rated": 4, "answers_failed": 1}


PAIR = {"prompt": "Why?", "chosen": "Because.", "rejected": "because why because", "corruption": "shuffled"}


def write_pairs(folder, *rows):
    path = folder / "pairs.jsonl"
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def test_pairs_are_read_as_text(tmp_path):
    numbers = {"prompt": "1", "chosen": "2.0", "rejected": "2024-01-01", "corruption": "x", "comment": "left out"}
    pairs = read_pairs(write_pairs(tmp_path, PAIR, "", numbers))
    assert list(pairs.columns) == list(PAIR) and len(pairs) == 2
    assert pairs.to_dict("records") == [PAIR, {key: numbers[key] for key in PAIR}]


@pytest.mark.parametrize("key", sorted(PAIR))
@pytest.mark.parametrize("null", [False, True])
def test_a_pair_that_lacks_a_key(tmp_path, key, null):
    row = {**PAIR, key: None} if null else {name: value for name, value in PAIR.items() if name != key}
    with pytest.raises(UserError, match=rf"pairs\.jsonl, line 3: lacks the key '{key}'"):
        read_pairs(write_pairs(tmp_path, PAIR, PAIR, row))
    with pytest.raises(UserError, match=rf"pairs\.jsonl, line 1: lacks the key '{key}'"):
        read_pairs(write_pairs(tmp_path, row))


@pytest.mark.parametrize("text", ["not json", "{", "", "[1]"])
def test_a_file_that_holds_no_pairs(tmp_path, text):
    with pytest.raises(UserError, match=r"pairs\.jsonl[:,] "):
        read_pairs(write_pairs(tmp_path, text))
    with pytest.raises(UserError, match=r"absent\.jsonl: there is no such file"):
        read_pairs(tmp_path / "absent.jsonl")


def test_shards_together_are_the_whole(tmp_path):
    keys = [(prompt, heuristic, seed) for seed in (0, 1) for prompt in "abcde" for heuristic in "xyz"]
    table = pd.DataFrame(keys, columns=KEY)
    table["rating"], table["rating_stderr"], table["reward"] = np.arange(30.0), 0.5, 1.5
    table["comparisons"] = np.int32(2)
    paths = []
    for shard, prompts in enumerate(["ab", "cd", "e"]):
        paths.append(tmp_path / f"shard={shard}.parquet")
        write_table("quality", table[table["prompt_id"].isin(list(prompts))], paths[-1])
    join_tables("quality", paths, tmp_path / "quality.parquet")
    gathered = read_table("quality", tmp_path / "quality.parquet")
    order, table = [*KEY], table[gathered.columns]
    pd.testing.assert_frame_equal(
        gathered.sort_values(order, ignore_index=True), table.sort_values(order, ignore_index=True), check_dtype=False
    )
    some = read_table("quality", tmp_path / "quality.parquet", ["prompt_id", "rating"], {"b", "e", "nobody"})
    assert sorted(set(some["prompt_id"])) == ["b", "e"] and len(some) == 12


def test_summaries_of_shards_are_summed_and_means_weighted():
    judge = {"kind": "pairwise", "position_bias": 0.1, "calls_made": 10}
    one = {"groups": 2, "calls": 12, "failed": 2, "most_byes": 1, "first_preference": 0.6, "judge": judge}
    one["failure_reasons"] = {"too long": 2}
    other = {**one, "calls": 40, "failed": 10, "most_byes": 2, "first_preference": 0.4, "failure_reasons": {"gone": 9}}
    other["judge"] = {**judge, "position_bias": -0.1}
    nothing = {**one, "calls": 3, "failed": 3, "first_preference": None, "failure_reasons": {"too long": 3}}
    nothing["judge"] = {**judge, "position_bias": None}
    merged = merge_summaries([one, other, nothing])
    assert (merged["groups"], merged["calls"], merged["failed"], merged["most_byes"]) == (6, 55, 15, 2)
    assert merged["first_preference"] == pytest.approx((10 * 0.6 + 30 * 0.4) / 40)
    assert merged["failure_reasons"] == {"too long": 5, "gone": 9}
    assert merged["judge"]["kind"] == "pairwise" and merged["judge"]["calls_made"] == 30
    assert merged["judge"]["position_bias"] == pytest.approx((10 * 0.1 - 30 * 0.1) / 40)
    assert merge_summaries([one]) == one
    assert merge_summaries([nothing]) == nothing


class FailingJudge:
    """Prefers by the players' numbers; one call in twenty fails, drawn once for all by the comparison."""

    def __init__(self):
        self.rewards, self.failures, self.said = {}, [], {}

    def read(self, candidates):
        self.failures = []

    def compare(self, comparisons):
        for comparison in comparisons:
            if content_number([*comparison]) % 20 == 0:
                self.failures.append((str(comparison), "the server gave no answer"))
                self.said[comparison] = np.nan
            else:
                first, second = int(comparison.first[1:]), int(comparison.second[1:])
                self.said[comparison] = 1 / (1 + np.exp((first - second) / 4))
        return np.array([self.said[comparison] for comparison in comparisons])

    def measured(self):
        return {"kind": "failing"}


@pytest.mark.parametrize("schedule", ["swiss", "round_robin"])
def test_with_5_percent_of_calls_failing_no_failed_one_enters_a_rating(schedule):
    alpha, keys = 0.02, [(prompt, f"h{i}", seed) for prompt in "pqrst" for seed in (0, 1) for i in range(24)]
    candidates = pd.DataFrame(keys, columns=KEY).assign(finish_reason="stop", text=lambda rows: rows["heuristic_id"])
    tournament = Tournament(schedule=schedule, regularization=alpha)
    judge = FailingJudge()
    labels, summary = in_whole(label_quality, [candidates], judge, tournament, 0.1, seed=4)
    failed = sum(np.isnan(outcome) for outcome in judge.said.values())
    # Some, and about as many as were injected; all of them told.
    assert 0.02 < failed / len(judge.said) < 0.09
    assert (summary["calls"], summary["failed"]) == (len(judge.said), failed)
    assert summary["failure_reasons"] == {"the server gave no answer": failed} and len(judge.failures) == failed
    for group, rows in labels.groupby(["prompt_id", "seed"]):
        players = {player: place for place, player in enumerate(rows["heuristic_id"])}
        wins = np.zeros((len(players), len(players)))
        for comparison, outcome in judge.said.items():
            if comparison.group == group and not np.isnan(outcome):
                first, second = players[comparison.first], players[comparison.second]
                wins[first, second] += outcome
                wins[second, first] += 1 - outcome
        expected = choix.ilsr_pairwise_dense(wins, alpha=alpha, max_iter=10_000, tol=1e-10)
        np.testing.assert_allclose(rows["rating"], expected - expected.mean(), atol=1e-5)
        np.testing.assert_array_equal(rows["comparisons"], np.rint((wins + wins.T).sum(axis=1)))
    with pytest.raises(
        UserError, match=rf"(?s){failed} of {len(judge.said)} judge calls failed .*allows 1\.0%.*gave no"
    ):
        in_whole(label_quality, [candidates], FailingJudge(), tournament, 0.01, seed=4)


def test_answers_to_a_prompt_meet_across_seeds():
    tournament = TOURNAMENT.model_copy(update={"group": "prompt"})
    labels, summary = in_whole(label_quality, [CANDIDATES], judge(), tournament, 0.0, seed=1)
    assert labels[KEY].equals(CANDIDATES[KEY])
    assert summary["groups"] == 2 and summary["calls"] == 6 + 1, "four answers to one prompt, two to the other"
    apart, _ = in_whole(label_quality, [CANDIDATES], judge(), TOURNAMENT, 0.0, seed=1)
    pd.testing.assert_series_equal(labels["reward"], apart["reward"])
    for _, group in labels.dropna(subset="rating").groupby("prompt_id"):
        assert group["rating"].sum() == pytest.approx(0, abs=1e-6)
        assert group["rating"].round(6).rank().tolist() == group["reward"].round(6).rank().tolist()
