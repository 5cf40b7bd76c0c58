"""Every way of pairing against the definition, pair by pair; rejection sampling against its probabilities."""

import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_samplers.preferences import PAIRINGS, accepted, binary_labels, pair_answers

# Quarters, so that ties and margins met exactly are frequent and differences are exact.
SCORES = st.lists(st.integers(-6, 6).map(lambda quarters: quarters / 4), min_size=1, max_size=9)


@st.composite
def groups(draw):
    scores = draw(SCORES)
    cells = st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))
    allowed = draw(st.none() | st.lists(cells, min_size=len(scores), max_size=len(scores)))
    return scores, draw(st.integers(0, 6)) / 4, None if allowed is None else np.array(allowed)


def legal(scores, margin, allowed) -> set[tuple[int, int]]:
    return {
        (i, j)
        for i in range(len(scores))
        for j in range(len(scores))
        if scores[i] - scores[j] > margin and (allowed is None or allowed[i][j])
    }


def pairs_of(group, pairing, seed=0, most=None) -> list[tuple[int, int]]:
    scores, margin, allowed = group
    generator = np.random.default_rng(seed)
    return [tuple(map(int, pair)) for pair in pair_answers(scores, pairing, margin, allowed, generator, most)]


@pytest.mark.parametrize("pairing", sorted(PAIRINGS))
@given(group=groups())
def test_only_legal_pairs_and_some_where_there_are_any(pairing, group):
    found, possible = pairs_of(group, pairing), legal(*group)
    assert set(found) <= possible and len(set(found)) == len(found)
    if pairing != "neighbors":
        assert bool(found) == bool(possible)


@given(group=groups())
def test_all_pairs_above_the_margin(group):
    assert set(pairs_of(group, "above_margin")) == legal(*group)


@given(group=groups(), seed=st.integers(0, 5))
def test_the_best_answer_meets_the_worst_or_any_worse_one(group, seed):
    scores, possible = group[0], legal(*group)
    if not possible:
        return
    best = max(scores[i] for i, _ in possible)
    (worst_pair,) = pairs_of(group, "best_worst")
    (random_pair,) = pairs_of(group, "best_random", seed)
    assert worst_pair[0] == random_pair[0] and scores[worst_pair[0]] == best
    partners = [j for i, j in possible if i == worst_pair[0]]
    assert scores[worst_pair[1]] == min(scores[j] for j in partners)
    assert random_pair[1] in partners


def test_a_random_partner_is_each_as_often():
    scores = [0.0, 3.0, 1.0, 2.0, 3.0]
    drawn = Counter(pairs_of((scores, 0, None), "best_random", seed)[0][1] for seed in range(3000))
    assert set(drawn) == {0, 2, 3}
    assert all(abs(count - 1000) < 4 * (3000 * 2 / 9) ** 0.5 for count in drawn.values())


@given(group=groups())
def test_the_largest_and_the_smallest_margin(group):
    scores, possible = group[0], legal(*group)
    margins = [scores[i] - scores[j] for i, j in possible]
    for pairing, extreme in (("largest_margin", max), ("smallest_margin", min)):
        assert [scores[i] - scores[j] for i, j in pairs_of(group, pairing)] == ([extreme(margins)] if margins else [])


@given(group=groups())
def test_neighbors_in_the_order_of_scores(group):
    scores, possible = group[0], legal(*group)
    ranks = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    assert pairs_of(group, "neighbors") == [pair for pair in pairwise(ranks) if pair in possible]


@given(group=groups(), most=st.integers(1, 4))
def test_at_most_so_many_pairs(group, most):
    every = pairs_of(group, "above_margin")
    some = pairs_of(group, "above_margin", 1, most)
    assert set(some) <= set(every) and len(some) == min(most, len(every))
    assert some == pairs_of(group, "above_margin", 1, most)


@given(scores=SCORES, order=st.randoms())
def test_the_order_of_different_scores_does_not_matter(scores, order):
    scores = sorted(set(scores))
    shuffled = scores[:]
    order.shuffle(shuffled)
    for pairing in sorted(set(PAIRINGS) - {"best_random", "smallest_margin"}):
        one = {(scores[i], scores[j]) for i, j in pairs_of((scores, 0, None), pairing)}
        assert one == {(shuffled[i], shuffled[j]) for i, j in pairs_of((shuffled, 0, None), pairing)}


def test_answers_are_accepted_with_their_probability():
    scores, beta, draws = np.array([1.0, 3.0, 2.5, -1.0]), 0.8, 20_000
    generator = np.random.default_rng(3)
    rates = np.mean([accepted(scores, beta, generator) for _ in range(draws)], axis=0)
    expected = np.exp((scores - 3.0) / beta)
    assert rates[1] == 1
    assert (np.abs(rates - expected) <= 4 * np.sqrt(expected * (1 - expected) / draws) + 1e-12).all()


def reference_of_the_paper(scores, beta, samples, generator: random.Random) -> set[int]:
    """Algorithm 1: go round the answers that are left until enough are accepted."""
    left, found = list(range(len(scores))), []
    while len(found) < samples:
        largest, removed = max(scores[i] for i in left), []
        for i in left:
            if generator.random() < np.exp((scores[i] - largest) / beta):
                found.append(i)
                removed.append(i)
                if len(found) == samples:
                    break
        left = [i for i in left if i not in removed]
    return set(found)


def test_passes_go_on_until_enough_are_accepted_as_in_the_paper():
    scores, beta, draws = np.array([0.0, 1.0, 0.2, -0.5, 0.9]), 0.4, 8_000
    ours, theirs = np.random.default_rng(1), random.Random(1)
    counts = np.zeros((2, len(scores)))
    for _ in range(draws):
        chosen = accepted(scores, beta, ours, samples=3)
        assert chosen.sum() == 3
        counts[0] += chosen
        counts[1, list(reference_of_the_paper(scores, beta, 3, theirs))] += 1
    # Each count is binomial; twice the variance of one, at most a quarter, for the difference.
    assert (np.abs(counts[0] - counts[1]) < 4 * np.sqrt(draws / 2)).all()


def test_more_samples_than_answers_are_all_of_them():
    assert accepted(np.array([1.0, 9.0]), 0.1, np.random.default_rng(0), samples=7).all()


@given(scores=SCORES, data=st.data())
def test_binary_labels_by_definition(scores, data):
    count = len(scores)
    groups = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    series = pd.Series(scores)
    assert binary_labels(series, "fixed", 0.25).tolist() == [score >= 0.25 for score in scores]
    for threshold, statistic in (("mean", np.mean), ("median", np.median)):
        together = binary_labels(series, threshold).tolist()
        apart = binary_labels(series, threshold, groups=np.array(groups)).tolist()
        for i, score in enumerate(scores):
            own = [scores[j] for j in range(count) if groups[j] == groups[i]]
            # Sums in another order may round otherwise, of means that a score meets exactly.
            for label, values in ((together[i], scores), (apart[i], own)):
                assert label == (score >= statistic(values)) or np.isclose(score, statistic(values), rtol=0, atol=1e-12)
