"""The adaptive schedule: its posterior and its choice against direct calculation, its stopping, and its resuming."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

from adaptive_samplers.labels.tournament import run_tournaments
from adaptive_samplers.labels.tournament.adaptive import (
    NOISE_PRIOR,
    SPREAD,
    default_comparisons,
    information,
    most_telling,
    posterior,
    top_memberships,
)
from adaptive_samplers.labels.tournament.group import Group
from adaptive_samplers.labels.tournament.ratings import CLOSEST, POSITION_SPREAD, bradley_terry, without_position


def players(count):
    return [f"h{player:03d}" for player in range(count)]


class NoisyJudge:
    """Strengths, noise and a preference for the first answer; an answer to a comparison is always the same."""

    def __init__(self, strengths, noise=0.5, first=0.0, seed=0):
        self.strengths, self.first = np.asarray(strengths, dtype=float), first
        count = len(self.strengths)
        self.noise = np.random.default_rng(seed).normal(0, noise, (count, count))
        self.asked = []

    def __call__(self, comparisons):
        self.asked.append(list(comparisons))
        pairs = [(int(comparison.first[1:]), int(comparison.second[1:])) for comparison in comparisons]
        odds = [self.strengths[i] - self.strengths[j] + self.noise[i, j] + self.first for i, j in pairs]
        return expit(np.array(odds))


def play(groups, judge, seed=7, correct_position=False, **adaptive):
    return run_tournaments(groups, judge, "adaptive", None, 0.001, seed, correct_position, adaptive)


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 8), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_the_posterior_is_laplaces_with_the_outcomes_dispersion(count, number, seed):
    random = np.random.default_rng(seed)
    first = random.integers(0, count, number)
    second = (first + random.integers(1, count, number)) % count
    outcomes = random.random(number)
    ratings, covariance, dispersion = posterior(first, second, outcomes, count)

    def fit(scale):
        def loss(at):
            odds = at[first] - at[second]
            likelihood = (outcomes * log_expit(odds) + (1 - outcomes) * log_expit(-odds)).sum()
            return -likelihood / scale + at @ at / (2 * SPREAD**2)

        at = minimize(loss, np.zeros(count), method="BFGS", options={"gtol": 1e-9}).x
        chance = expit(at[first] - at[second])
        design = np.eye(count)[first] - np.eye(count)[second]
        curvature = design.T * (chance * (1 - chance) / scale) @ design + np.eye(count) / SPREAD**2
        return at, np.linalg.inv(curvature), chance, design

    _, unit, chance, design = fit(1.0)
    weight = chance * (1 - chance)
    leverage = weight * np.einsum("mi,ij,mj->m", design, unit, design)
    expected = (NOISE_PRIOR + ((outcomes - chance) ** 2 / weight).sum()) / (NOISE_PRIOR + number - leverage.sum())
    assert dispersion == pytest.approx(expected, rel=1e-4)
    at, exact, _, _ = fit(expected)
    np.testing.assert_allclose(ratings, at, atol=1e-4)
    np.testing.assert_allclose(covariance, exact, rtol=1e-3, atol=1e-5)


def test_before_any_outcome_the_prior_stands():
    ratings, covariance, dispersion = posterior([], [], [], 4)
    np.testing.assert_allclose(ratings, 0)
    np.testing.assert_allclose(covariance, SPREAD**2 * np.eye(4))
    assert dispersion == 1.0


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 7), st.integers(0, 2**32 - 1))
def test_each_comparison_taken_reduces_the_weighted_variances_most(count, seed):
    random = np.random.default_rng(seed)
    root = random.normal(size=(count, count))
    covariance = root @ root.T + 0.1 * np.eye(count)
    importance, weight = random.random(count), random.uniform(0.05, 0.25, (count, count))
    met = np.eye(count, dtype=bool)
    met[0, 1] = met[1, 0] = True
    pairs = most_telling(covariance, covariance * importance @ covariance, weight, met, 5)

    precision, taken = np.linalg.inv(covariance), set()
    for one, other in pairs:
        reductions = {}
        for i, j in itertools.combinations(range(count), 2):
            if (i, j) != (0, 1) and (i, j) not in taken:
                difference = np.eye(count)[i] - np.eye(count)[j]
                after = np.linalg.inv(precision + weight[i, j] * np.outer(difference, difference))
                reductions[i, j] = importance @ (np.diag(np.linalg.inv(precision)) - np.diag(after))
        assert reductions[one, other] == pytest.approx(max(reductions.values()), rel=1e-6)
        taken.add((int(one), int(other)))
        difference = np.eye(count)[one] - np.eye(count)[other]
        precision = precision + weight[one, other] * np.outer(difference, difference)
    assert len(pairs) == min(5, count * (count - 1) // 2 - 1)


def test_information_is_that_of_an_even_outcome_at_most():
    known = information(np.array([0.0, 0.0, 3.0]), np.zeros((3, 3)))
    assert known[0, 1] == pytest.approx(0.25)
    assert known[0, 2] == pytest.approx(expit(3) * expit(-3))
    unsure = information(np.array([0.0, 0.0, 3.0]), np.eye(3))
    assert known[0, 2] < unsure[0, 2] < 0.25


def test_memberships_of_the_top_by_hand():
    random = np.random.default_rng(0)
    membership, settled = top_memberships(np.array([1.0, 0.0, -50.0]), np.eye(3) / 2, 1, random)
    # The difference of the first two is normal around 1 with variance 1: positive with probability 0.841.
    assert membership[0] == pytest.approx(0.841, abs=0.04) and settled == membership[0]
    assert membership.sum() == pytest.approx(1) and membership[2] == 0
    membership, settled = top_memberships(np.array([1.0, 0.0, -50.0]), np.eye(3) / 2, 2, random)
    assert settled == 1 and membership.tolist() == [1, 1, 0]
    assert top_memberships(np.zeros(2), np.eye(2), 5, random)[1] == 1  # all are in the top


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 14), st.integers(1, 40), st.integers(0, 1000))
def test_the_budget_is_kept_and_nobody_meets_twice(count, budget, seed):
    judge = NoisyJudge(np.zeros(count), 1.0, seed=seed)
    _, summary = play({("p", 0): players(count)}, judge, seed=seed, comparisons=budget, confidence=None)
    asked = [frozenset((c.first, c.second)) for comparisons in judge.asked for c in comparisons]
    assert len(set(asked)) == len(asked) == summary["calls"] == min(budget, count * (count - 1) // 2)
    assert max(len(comparisons) for comparisons in judge.asked) <= max(1, count // 2)
    assert summary["rematches"] == summary["byes"] == 0


def test_the_default_budget_is_half_the_comparisons_of_a_swiss_tournament():
    assert default_comparisons(143) == 320  # of 639
    judge = NoisyJudge(np.zeros(16), 1.0)
    _, summary = play({("p", 0): players(16)}, judge, confidence=None)
    assert summary["calls"] == default_comparisons(16) == 20


def test_a_group_stops_when_its_top_is_settled_and_others_go_on():
    # The same judge sees both groups: in one, one player stands out; in the other, all are the same.
    clear, even = NoisyJudge([9, 0, 0, 0, 0, 0, 0, 0], 0.1), NoisyJudge(np.zeros(8), 0.1)

    def judge(comparisons):
        return np.array([(clear if c.group[0] == "clear" else even)([c])[0] for c in comparisons])

    table, summary = play({("clear", 0): players(8), ("even", 0): players(8)}, judge, comparisons=26, confidence=0.9)
    assert len(clear.asked) < len(even.asked) == 26
    assert summary["settled"] == 1
    best = table[table["prompt_id"] == "clear"].sort_values("rating")["heuristic_id"].iloc[-1]
    assert best == "h000"


def test_groups_that_stop_are_right_as_often_as_they_should_be():
    random = np.random.default_rng(0)
    right = []
    for number in range(30):
        strengths = random.normal(0, 2, 20)
        table, summary = play(
            {("p", number): players(20)}, NoisyJudge(strengths, 0.5, seed=number), comparisons=150, confidence=0.9
        )
        if summary["calls"] < 150:
            right.append(int(table["rating"].argmax()) == int(strengths.argmax()))
    assert len(right) >= 10 and np.mean(right) >= 0.85


def test_comparisons_go_where_the_top_is_decided():
    strengths = np.linspace(0, 8, 30)
    judge = NoisyJudge(strengths, 0.3)
    table, _ = play({("p", 0): players(30)}, judge, comparisons=120, confidence=None, top=3)
    comparisons = table["comparisons"].to_numpy()
    assert comparisons[24:28].mean() > 1.5 * comparisons[:15].mean()  # two on either side of the third-best
    assert set(np.argsort(-table["rating"])[:3]) == {27, 28, 29}


def test_the_schedule_follows_from_seed_and_outcomes_alone():
    groups = {(f"p{prompt}", seed): players(9) for prompt in range(3) for seed in range(2)}
    shuffled = {key: list(reversed(groups[key])) for key in reversed(list(groups))}
    together, again, alone, other = (NoisyJudge(np.arange(9) / 2, 1.0, 0.5) for _ in range(4))
    table, summary = play(groups, together, correct_position=True)
    same, summary_again = play(shuffled, again, correct_position=True)
    assert table.equals(same) and summary == summary_again and together.asked == again.asked
    play({("p1", 1): players(9)}, alone, correct_position=True)
    own = [[c for c in comparisons if c.group == ("p1", 1)] for comparisons in together.asked]
    assert [comparisons for comparisons in own if comparisons] == alone.asked
    play(groups, other, seed=8, correct_position=True)
    assert other.asked != together.asked


@pytest.mark.parametrize("schedule", ["swiss", "adaptive"])
@pytest.mark.parametrize("rounds_before", [1, 2])
def test_a_killed_tournament_goes_on_from_the_outcomes_kept(schedule, rounds_before):
    """As the pairwise judge keeps them: by comparison, with what was said of it."""
    groups = {(f"p{prompt}", 0): players(15) for prompt in range(4)}
    settings = (schedule, None, 0.001, 7)
    whole, kept = NoisyJudge(np.arange(15) / 3, 1.0), {}
    expected, summary = run_tournaments(groups, whole, *settings)

    def killed(comparisons):
        if len(kept_rounds) == rounds_before:
            raise KeyboardInterrupt
        outcomes = whole(comparisons)
        kept.update(zip(comparisons, outcomes, strict=True))
        kept_rounds.append(comparisons)
        return outcomes

    kept_rounds = []
    with pytest.raises(KeyboardInterrupt):
        run_tournaments(groups, killed, *settings)
    asked = []

    def resumed(comparisons):
        missing = [comparison for comparison in comparisons if comparison not in kept]
        asked.extend(missing)
        kept.update(zip(missing, whole(missing), strict=True))
        return np.array([kept[comparison] for comparison in comparisons])

    table, summary_again = run_tournaments(groups, resumed, *settings)
    assert table.equals(expected) and summary_again == summary
    assert len(asked) == summary["calls"] - sum(len(comparisons) for comparisons in kept_rounds)


def test_failed_calls_spend_the_budget_and_are_no_outcomes():
    def failing(comparisons):
        return np.full(len(comparisons), np.nan)

    table, summary = play({("p", 0): players(6)}, failing, comparisons=8, confidence=0.5)
    assert summary["calls"] == summary["failed"] == 8 and summary["settled"] == 0
    assert table["rating"].isna().all() and (table["comparisons"] == 0).all()


@settings(max_examples=20, deadline=None)
@given(st.floats(-2, 2), st.integers(0, 2**32 - 1))
def test_a_preference_for_the_first_is_found_and_taken_out(worth, seed):
    random = np.random.default_rng(seed)
    strengths = random.normal(0, 1, 12)
    pairs = [pair if random.random() < 0.5 else pair[::-1] for pair in itertools.combinations(range(12), 2)]
    first, second = np.array(pairs).T
    fair = expit(strengths[first] - strengths[second])
    corrected, found = without_position(first, second, expit(logit(fair) + worth), 12)

    def loss(at):
        odds, outcomes = at[first] - at[second] + at[-1], expit(logit(fair) + worth)
        likelihood = (outcomes * log_expit(odds) + (1 - outcomes) * log_expit(-odds)).sum()
        return -likelihood + at[:-1] @ at[:-1] / (2 * SPREAD**2) + at[-1] ** 2 / (2 * POSITION_SPREAD**2)

    best = minimize(loss, np.zeros(13), method="BFGS", options={"gtol": 1e-9}).x[-1]
    assert found == pytest.approx(best, abs=1e-4)
    assert found == pytest.approx(worth, abs=0.05 + 0.15 * abs(worth))  # the prior draws it towards 0
    assert np.abs(logit(corrected) - logit(fair)).max() == pytest.approx(abs(found - worth), abs=1e-6)


def test_outcomes_of_zero_and_one_stay_finite_without_position():
    corrected, found = without_position([0, 1, 2], [1, 2, 0], [1.0, 1.0, 1.0], 3)
    assert np.isfinite(found) and found > 0
    assert (np.abs(logit(corrected) - (logit(1 - CLOSEST) - found)) < 1e-6).all()


def test_ratings_without_position_are_closer_and_what_it_was_worth_is_reported():
    strengths = np.random.default_rng(1).normal(0, 1, 30)
    groups = {("p", 0): players(30)}
    distances = []
    for correct in (False, True):
        judge = NoisyJudge(strengths, 0.2, first=2.0)
        table, summary = play(groups, judge, correct_position=correct, confidence=None)
        distances.append(np.corrcoef(table["rating"], strengths)[0, 1])
    assert distances[1] > distances[0] + 0.02 and distances[1] > 0.9
    assert summary["worth_of_first"] == pytest.approx(2.0, abs=0.3)


def test_a_group_knows_into_how_many_parts_it_falls():
    group = Group(("p", 0), players(5), 0)
    assert group.parts() == 0
    group.record([group.ask(0, 1), group.ask(2, 3)], np.array([0.5, 0.7]))
    assert group.parts() == 2
    group.record([group.ask(1, 2)], np.array([np.nan]))
    assert group.parts() == 2
    group.record([group.ask(1, 3)], np.array([0.0]))
    assert group.parts() == 1


@pytest.mark.parametrize("regularization", [1e-3, 1e-6, 1e-9])
def test_ratings_stay_finite_with_next_to_no_regularization(regularization):
    """As with a judge that is sure of itself: outcomes of exactly 0 and 1, and parts that hardly know each other."""
    strengths = np.linspace(0, 60, 40)
    wins = np.zeros((40, 40))
    for one in range(39):
        wins[one, one + 1] = expit(strengths[one] - strengths[one + 1])
        wins[one + 1, one] = 1 - wins[one, one + 1]
    wins[0, 39], wins[39, 0] = 0.0, 1.0
    ratings, errors = bradley_terry(wins, regularization)
    assert np.isfinite(ratings).all() and np.isfinite(errors).all() and (errors > 0).all()
    assert (np.diff(ratings) > 0).all() and abs(ratings.sum()) < 1e-6
