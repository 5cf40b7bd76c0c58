"""Schedules by their rules, ratings against maximum likelihood by scipy, and what failed calls may not do."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, log_expit, log_softmax
from scipy.stats import kendalltau

from adaptive_samplers.config.load import load_config
from adaptive_samplers.labels.tournament import Comparison, bradley_terry, pairing, run_tournaments
from adaptive_samplers.labels.tournament.pairing import default_rounds, pair_round
from adaptive_samplers.tables import to_arrow
from support import REPOSITORY, read_config

DEMO = read_config("config.yaml")


def group_of(count):
    return [f"h{player:03d}" for player in range(count)]


def judge_by_strength(spread=1.0):
    """A judge whose probability follows from the number in the player's name; records the comparisons."""
    asked = []

    def judge(comparisons):
        asked.append(list(comparisons))
        return np.array([expit(spread * (int(c.first[1:]) - int(c.second[1:]))) for c in comparisons])

    judge.asked = asked
    return judge


def play(groups, judge, schedule="swiss", rounds=None, regularization=0.1, seed=7):
    return run_tournaments(groups, judge, schedule, rounds, regularization, seed)


def objective(ratings, wins, regularization):
    """The penalized likelihood that `bradley_terry` documents, negated."""
    count = len(wins)
    likelihood = (wins * log_expit(ratings[:, None] - ratings[None, :])).sum()
    return -(likelihood + regularization * count * log_softmax(ratings).sum())


def numeric_hessian(function, at, step=1e-4):
    count = len(at)
    hessian = np.empty((count, count))
    for one, other in itertools.product(range(count), repeat=2):
        terms = []
        for sign_one, sign_other in itertools.product((1, -1), repeat=2):
            point = at.copy()
            point[one] += sign_one * step
            point[other] += sign_other * step
            terms.append(sign_one * sign_other * function(point))
        hessian[one, other] = sum(terms) / (4 * step**2)
    return hessian


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 9), st.floats(0.005, 1.0), st.floats(0.2, 1.0), st.integers(0, 2**32 - 1))
def test_ratings_and_errors_are_those_of_the_penalized_likelihood(count, regularization, density, seed):
    generator = np.random.default_rng(seed)
    wins = np.zeros((count, count))
    for one, other in itertools.combinations(range(count), 2):
        if generator.random() < density:
            wins[one, other] = generator.random()
            wins[other, one] = 1 - wins[one, other]
    ratings, errors = bradley_terry(wins, regularization)

    best = minimize(objective, np.zeros(count), (wins, regularization), method="BFGS", options={"gtol": 1e-8})
    np.testing.assert_allclose(ratings, best.x - best.x.mean(), atol=2e-5)
    assert ratings.sum() == pytest.approx(0, abs=1e-9)
    assert objective(ratings, wins, regularization) <= best.fun + 1e-9

    hessian = numeric_hessian(lambda point: objective(point, wins, regularization), ratings)
    np.testing.assert_allclose(errors, np.sqrt(np.diag(np.linalg.pinv(hessian, rcond=1e-5))), rtol=1e-3)


def test_two_players_by_hand():
    # With little regularization the rating difference is the log-odds that the judge gave.
    ratings, errors = bradley_terry(np.array([[0.0, 0.8], [0.2, 0.0]]), 1e-9)
    assert ratings[0] - ratings[1] == pytest.approx(np.log(0.8 / 0.2), abs=1e-6)
    # Information about the difference is p (1 - p); a centered rating is half the difference.
    np.testing.assert_allclose(errors, 0.5 / np.sqrt(0.8 * 0.2), rtol=1e-6)


def test_more_comparisons_and_more_regularization_shrink_the_errors():
    wins = np.array([[0.0, 0.7, 0.6], [0.3, 0.0, 0.6], [0.4, 0.4, 0.0]])
    base = bradley_terry(wins, 0.1)[1]
    assert (bradley_terry(4 * wins, 0.1)[1] < base).all()
    assert (bradley_terry(wins, 1.0)[1] < base).all()


def test_a_round_robin_recovers_the_judges_scale():
    ratings, summary = play({("p", 0): group_of(6)}, judge_by_strength(0.5), "round_robin", regularization=1e-6)
    np.testing.assert_allclose(ratings["rating"], 0.5 * (np.arange(6) - 2.5), atol=1e-3)
    assert ratings["comparisons"].tolist() == [5] * 6
    assert summary["calls"] == 15 and summary["byes"] == 0 and summary["rematches"] == 0


def test_everyone_who_wins_always_stays_finite():
    judge = judge_by_strength(1e6)
    ratings, _ = play({("p", 0): group_of(12)}, judge, "round_robin")
    assert np.isfinite(ratings["rating"]).all() and ratings["rating"].is_monotonic_increasing
    assert ratings["rating"].sum() == pytest.approx(0, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 14), st.integers(1, 14), st.integers(0, 1000))
def test_swiss_rounds_obey_the_rules(count, rounds, seed):
    judge = judge_by_strength()
    _, summary = play({("p", 0): group_of(count)}, judge, rounds=rounds, seed=seed)
    met, byes = {}, dict.fromkeys(group_of(count), 0)
    for comparisons in judge.asked:
        playing = [player for c in comparisons for player in (c.first, c.second)]
        assert len(playing) == len(set(playing)) == count - count % 2
        for player in set(group_of(count)) - set(playing):
            byes[player] += 1
        for c in comparisons:
            pair = frozenset((c.first, c.second))
            met[pair] = met.get(pair, 0) + 1
    assert max(byes.values()) - min(byes.values()) <= 1
    assert sum(byes.values()) == summary["byes"] == len(judge.asked) * (count % 2)
    assert max(byes.values()) == summary["most_byes"]
    assert sum(met.values()) - len(met) == summary["rematches"]
    all_pairs = count * (count - 1) // 2
    assert len(judge.asked) == rounds or len(met) == all_pairs
    # Dirac: up to half the players many rounds exist without a rematch whatever was played before.
    if len(judge.asked) <= count // 2:
        assert summary["rematches"] == 0


def exact_fewest_rematches(count, met):
    """By trying every perfect matching."""

    def matchings(players):
        if not players:
            yield []
            return
        for position in range(1, len(players)):
            rest = players[1:position] + players[position + 1 :]
            for others in matchings(rest):
                yield [(players[0], players[position]), *others]

    return min(sum(met[pair] for pair in pairs) for pairs in matchings(list(range(count))))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([2, 4, 6, 8]), st.floats(0, 1), st.integers(0, 2**32 - 1), st.booleans())
def test_pairs_have_the_fewest_rematches_possible(count, density, seed, search):
    generator = np.random.default_rng(seed)
    upper = np.triu(generator.random((count, count)) < density, k=1).astype(int)
    met = upper + upper.T
    ranked = generator.permutation(count).tolist()
    trials = pairing.TRIALS
    try:
        # Without trials the quick search gives up at once, and the exact matching must do as well.
        pairing.TRIALS = trials if search else 0
        pairs, bye = pair_round(ranked, met, np.zeros(count, dtype=int))
    finally:
        pairing.TRIALS = trials
    assert bye is None and sorted(itertools.chain(*pairs)) == list(range(count))
    assert sum(met[pair] for pair in pairs) == exact_fewest_rematches(count, met)


def test_like_meets_like():
    ranked = [3, 1, 0, 2, 5, 4]
    no_meetings = np.zeros((6, 6), dtype=int)
    assert pair_round(ranked, no_meetings, np.zeros(6, dtype=int))[0] == [(3, 1), (0, 2), (5, 4)]
    met = no_meetings.copy()
    met[3, 1] = met[1, 3] = 1
    assert pair_round(ranked, met, np.zeros(6, dtype=int))[0] == [(3, 0), (1, 2), (5, 4)]


def test_the_bye_goes_to_the_lowest_ranked_without_one():
    ranked, met = [0, 1, 2, 3, 4], np.zeros((5, 5), dtype=int)
    assert pair_round(ranked, met, np.zeros(5, dtype=int))[1] == 4
    assert pair_round(ranked, met, np.array([0, 0, 0, 1, 1]))[1] == 2
    assert pair_round(ranked, met, np.array([1, 1, 1, 1, 1]))[1] == 4
    # 3 has met everyone but 4: were 4 to sit out, a rematch would follow.
    met[3, :3] = met[:3, 3] = 1
    assert pair_round(ranked, met, np.zeros(5, dtype=int)) == ([(0, 1), (2, 4)], 3)


def test_many_players_late_in_a_tournament_pair_quickly():
    judge = judge_by_strength(0.1)
    _, summary = play({("p", 0): group_of(60)}, judge, rounds=40)
    assert len(judge.asked) == 40
    assert summary["rematches"] <= 60


def test_swiss_finds_the_order_with_few_comparisons():
    ratings, summary = play({("p", 0): group_of(16)}, judge_by_strength(0.3))
    assert summary["calls"] == 8 * default_rounds(16) == 40
    assert np.corrcoef(ratings["rating"], np.arange(16))[0, 1] > 0.97


def test_rounds_default_to_log2_of_the_players_and_one():
    assert [default_rounds(count) for count in (0, 1, 2, 3, 4, 5, 16, 17)] == [0, 0, 2, 3, 3, 4, 5, 6]


def test_each_round_of_all_groups_is_one_call():
    judge = judge_by_strength()
    groups = {("p", seed): group_of(8) for seed in range(5)} | {("q", 0): group_of(3), ("r", 0): group_of(1)}
    _, summary = play(groups, judge)
    assert [len(comparisons) for comparisons in judge.asked] == [21, 21, 21, 20]
    assert summary["groups"] == 7 and summary["byes"] == 3
    assert summary["unrated"] == 1  # a player without opponent
    round_robin = judge_by_strength()
    play(groups, round_robin, "round_robin")
    assert [len(comparisons) for comparisons in round_robin.asked] == [5 * 28 + 3]


def test_the_result_follows_from_the_seed_and_not_from_order():
    groups = {(f"p{prompt}", seed): group_of(9) for prompt in range(3) for seed in range(2)}
    shuffled = {key: list(reversed(groups[key])) for key in reversed(list(groups))}
    first, second, alone = judge_by_strength(), judge_by_strength(), judge_by_strength()
    table, summary = play(groups, first)
    again, summary_again = play(shuffled, second)
    assert table.equals(again) and summary == summary_again and first.asked == second.asked
    play({("p1", 1): group_of(9)}, alone)
    own = [[c for c in comparisons if c.group == ("p1", 1)] for comparisons in first.asked]
    assert own == alone.asked
    other = judge_by_strength()
    play(groups, other, seed=8)
    assert other.asked != first.asked


def test_the_table_is_the_quality_table_without_reward():
    table, _ = play({("q", 1): group_of(4), ("p", 0): group_of(4)}, judge_by_strength())
    assert to_arrow("quality", table.assign(reward=np.nan)).num_rows == 8
    assert table["prompt_id"].tolist() == ["p"] * 4 + ["q"] * 4
    assert table.groupby(["prompt_id", "seed"])["rating"].mean().abs().max() < 1e-9


def test_failed_calls_are_neither_ties_nor_comparisons():
    def failing(comparisons):
        outcomes = judge_by_strength()(comparisons)
        outcomes[["h000" in (c.first, c.second) for c in comparisons]] = np.nan
        return outcomes

    table, summary = play({("p", 0): group_of(5)}, failing, "round_robin")
    without, _ = play({("p", 0): group_of(5)[1:]}, judge_by_strength(), "round_robin")
    assert (summary["calls"], summary["failed"], summary["unrated"]) == (10, 4, 1)
    assert np.isnan(table["rating"][0]) and np.isnan(table["rating_stderr"][0]) and table["comparisons"][0] == 0
    for column in ("rating", "rating_stderr", "comparisons"):
        np.testing.assert_allclose(table[column][1:], without[column])


def test_when_every_call_fails_nobody_is_rated():
    table, summary = play({("p", 0): group_of(4)}, lambda comparisons: np.full(len(comparisons), np.nan))
    assert table["rating"].isna().all() and summary["failed"] == summary["calls"] == 6
    assert summary["first_preference"] is None and summary["disconnected"] == 0


def test_groups_that_fall_apart_are_counted_and_finite():
    def within_halves(comparisons):
        outcomes = judge_by_strength()(comparisons)
        outcomes[[(int(c.first[1:]) < 2) != (int(c.second[1:]) < 2) for c in comparisons]] = np.nan
        return outcomes

    table, summary = play({("p", 0): group_of(4)}, within_halves, "round_robin")
    assert summary["disconnected"] == 1 and np.isfinite(table["rating"]).all()
    assert summary["disconnected_groups"] == {"prompt p, seed 0": 2}
    assert np.isfinite(table["rating_stderr"]).all()


def test_who_is_shown_first_is_balanced():
    judge = judge_by_strength()
    play({("p", seed): group_of(10) for seed in range(20)}, judge, "round_robin")
    comparisons = judge.asked[0]
    surplus = {}
    for c in comparisons:
        surplus[c.group, c.first] = surplus.get((c.group, c.first), 0) + 1
        surplus[c.group, c.second] = surplus.get((c.group, c.second), 0) - 1
    assert max(abs(value) for value in surplus.values()) <= 1
    biased, summary = play({("p", 0): group_of(8)}, lambda asked: np.full(len(asked), 0.9), "round_robin")
    assert summary["first_preference"] == pytest.approx(0.9)
    assert biased["rating"].abs().max() < 1.0


@pytest.mark.parametrize("outcomes", [[0.5], [1.5] * 3, [-0.1] * 3, [np.inf] * 3])
def test_a_judge_must_return_probabilities(outcomes):
    with pytest.raises(ValueError, match="round 1: the judge returned"):
        play({("p", 0): group_of(3)}, lambda _: np.array(outcomes), "round_robin")


def test_impossible_settings_are_refused():
    groups = {("p", 0): group_of(3)}
    with pytest.raises(ValueError, match="unknown schedule 'knockout'"):
        play(groups, judge_by_strength(), "knockout")
    with pytest.raises(ValueError, match="above 0"):
        play(groups, judge_by_strength(), regularization=0.0)
    with pytest.raises(ValueError, match="twice"):
        play({("p", 0): ["a", "a"]}, judge_by_strength())
    empty, summary = play({}, judge_by_strength())
    assert len(empty) == 0 and summary["calls"] == 0


def test_comparisons_name_group_and_players():
    judge = judge_by_strength()
    play({("p", 3): group_of(2)}, judge)
    assert len(judge.asked) == 1, "a pair that has met is not asked again when no other is left"
    (comparison,) = judge.asked[0]
    assert isinstance(comparison, Comparison) and comparison.group == ("p", 3)
    assert {comparison.first, comparison.second} == {"h000", "h001"}


def test_the_default_regularization_leaves_a_consistent_judges_order_as_it_is():
    alpha = load_config(DEMO, REPOSITORY)["labels"]["quality"]["tournament"]["regularization"]
    strengths = np.random.default_rng(1).normal(scale=1.5, size=(40, 17))
    groups = {(f"{group:02d}", 0): [f"{player:02d}" for player in range(17)] for group in range(40)}

    def judge(comparisons):
        rows = [(int(c.group[0]), int(c.first), int(c.second)) for c in comparisons]
        return np.array([expit(strengths[group, first] - strengths[group, second]) for group, first, second in rows])

    def agreement(regularization):
        ratings = play(groups, judge, regularization=regularization)[0]["rating"].to_numpy().reshape(strengths.shape)
        taus = [kendalltau(*pair).statistic for pair in zip(ratings, strengths, strict=True)]
        return np.mean(ratings.argmax(1) == strengths.argmax(1)), np.mean(taus)

    best, order = agreement(alpha)
    assert best == 1.0 and order > 0.999
    assert agreement(0.01)[1] < order - 0.01, "a hundred times more of it moves answers past each other"
