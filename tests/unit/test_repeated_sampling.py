"""Coverage, best of n and votes, against all subsets counted one by one, direct integration and other libraries."""

import math
from collections import Counter
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import dblquad, quad
from scipy.optimize import curve_fit

from adaptive_samplers.repeated_sampling import (
    PowerLaw,
    adaptive_consistency,
    best_of_n,
    confidence_in_majority,
    fit_power_law,
    majority_vote,
    pass_at_k,
)


@st.composite
def counts(draw, most=400):
    n = draw(st.integers(1, most))
    return n, draw(st.integers(0, n)), draw(st.integers(0, n))


@given(counts())
def test_pass_at_k_is_its_definition(counted):
    n, c, k = counted
    exact = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    assert float(pass_at_k(n, c, k)) == pytest.approx(float(exact), rel=1e-11, abs=1e-300)


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(right, data):
    k = data.draw(st.integers(1, len(right)))
    subsets = list(combinations(right, k))
    assert float(pass_at_k(len(right), sum(right), k)) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_keeps_its_digits_where_factorials_do_not():
    assert float(pass_at_k(10**6, 1, 1)) == pytest.approx(1e-6, rel=1e-12)
    exact = 1 - Fraction(math.comb(9_990, 100), math.comb(10_000, 100))
    assert float(pass_at_k(10_000, 10, 100)) == pytest.approx(float(exact), rel=1e-12)
    assert pass_at_k(10, 3, 8) == 1.0 and pass_at_k(10, 0, 8) == 0.0


def test_pass_at_k_broadcasts_and_refuses_what_cannot_be():
    table = pass_at_k(8, np.array([[0], [2], [8]]), [1, 2, 4])
    np.testing.assert_allclose(table, [[0, 0, 0], [2 / 8, 1 - 15 / 28, 1 - 15 / 70], [1, 1, 1]])
    with pytest.raises(ValueError, match="size of the subsets"):
        pass_at_k(4, 2, 5)
    with pytest.raises(ValueError, match="marked samples"):
        pass_at_k(4, 5, 2)


# Few different scores, so that samples are often equal.
scored = st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), min_size=1, max_size=7)


@settings(deadline=None)
@given(scored, st.data())
def test_best_of_n_is_the_mean_over_all_subsets(samples, data):
    n = data.draw(st.integers(1, len(samples)))
    expected = []
    for subset in combinations(samples, n):
        best = max(score for score, _ in subset)
        expected.append(np.mean([value for score, value in subset if score == best]))
    scores, values = np.array(samples, dtype=float).T
    assert float(best_of_n(scores, values, n)) == pytest.approx(np.mean(expected), abs=1e-12)


def test_best_of_n_of_many_rows_at_once_and_of_unknown_values():
    generator = np.random.default_rng(0)
    scores, values = generator.normal(size=(2, 3, 4, 9))
    together = best_of_n(scores, values, 5)
    assert together.shape == (3, 4)
    assert together[2, 1] == pytest.approx(float(best_of_n(scores[2, 1], values[2, 1], 5)))
    # Its own scores: the expected maximum, between the mean and the maximum.
    assert best_of_n(scores, scores, 9) == pytest.approx(scores.max(axis=-1))
    assert best_of_n(scores, scores, 1) == pytest.approx(scores.mean(axis=-1))
    scores[0, 0, 3], values[1, 1, 2] = np.nan, np.nan
    unknown = np.isnan(best_of_n(scores, values, 5))
    assert unknown.sum() == 2 and unknown[0, 0] and unknown[1, 1]
    with pytest.raises(ValueError, match="n is 10"):
        best_of_n(scores, values, 10)
    with pytest.raises(ValueError, match="same shape"):
        best_of_n(scores, values[0], 2)


def elected(subset, means, weights=None):
    """The expected value of the answer with the most votes in one subset, ties split."""
    votes = Counter()
    for position, answer in subset:
        if answer is not None:
            votes[answer] += 1 if weights is None else weights[position]
    if not votes:
        return 0.0
    most = max(votes.values())
    return float(np.mean([means[answer] for answer, count in votes.items() if math.isclose(count, most)]))


voted = st.lists(
    st.tuples(st.sampled_from([None, "a", "b", "c", "d"]), st.integers(0, 1), st.sampled_from([0.5, 1.0, 1.5, 3.0])),
    min_size=1,
    max_size=8,
)


@settings(deadline=None)
@given(voted, st.data())
def test_majority_vote_is_the_mean_over_all_subsets(samples, data):
    answers, values, weights = (list(column) for column in zip(*samples, strict=True))
    n = data.draw(st.integers(1, len(samples)))
    means = {
        name: np.mean([value for answer, value in zip(answers, values, strict=True) if answer == name])
        for name in set(answers) - {None}
    }
    subsets = list(combinations(enumerate(answers), n))
    expected = np.mean([elected(subset, means) for subset in subsets])
    assert majority_vote(answers, values, n) == pytest.approx(expected, abs=1e-12)
    expected = np.mean([elected(subset, means, weights) for subset in subsets])
    assert majority_vote(answers, values, n, weights) == pytest.approx(expected, abs=1e-12)


def test_majority_vote_of_many_samples_agrees_with_drawn_subsets():
    generator = np.random.default_rng(1)
    answers = [*["right"] * 70, *["wrong"] * 60, *[f"other {i}" for i in range(40)], *[None] * 30]
    values = [float(answer == "right") for answer in answers]
    for n in (5, 40, 150):
        drawn = [
            elected([(i, answers[i]) for i in generator.permutation(200)[:n]], Counter(right=1)) for _ in range(4000)
        ]
        assert majority_vote(answers, values, n) == pytest.approx(np.mean(drawn), abs=4 * 0.5 / math.sqrt(4000))
    assert majority_vote(answers, values, 200) == pytest.approx(1.0, abs=1e-9)


def test_weighted_votes_over_drawn_subsets_are_near_and_the_same_twice():
    generator = np.random.default_rng(2)
    answers = generator.choice(["a", "b", "c"], size=12).tolist()
    values, weights = [float(answer == "a") for answer in answers], generator.uniform(0.1, 2, size=12)
    exact = majority_vote(answers, values, 6, weights)
    drawn = majority_vote(answers, values, 6, weights, subsets=900, seed=3)
    assert drawn != exact and drawn == pytest.approx(exact, abs=4 * 0.5 / math.sqrt(900))
    assert drawn == majority_vote(answers, values, 6, weights, subsets=900, seed=3)


def test_votes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="n is 3"):
        majority_vote(["a", "b"], [0, 1], 3)
    with pytest.raises(ValueError, match="2 answers and values"):
        majority_vote(["a", "b"], [0], 1)
    for weights in ([1, -1], [1, np.inf], [1]):
        with pytest.raises(ValueError, match="weights must be"):
            majority_vote(["a", "b"], [0, 1], 1, weights)


@settings(deadline=None)
@given(st.integers(0, 12), st.integers(0, 12))
def test_the_beta_criterion_is_the_integral_of_the_paper(first, second):
    most, least = max(first, second), min(first, second)
    above = quad(lambda p: p**most * (1 - p) ** least, 0.5, 1)[0]
    expected = above / quad(lambda p: p**most * (1 - p) ** least, 0, 1)[0] if most else 0.0
    assert confidence_in_majority([first, second]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("votes", [(3, 2, 1), (1, 1, 1), (5, 1, 1), (2, 0, 0), (6, 5, 2)])
def test_the_dirichlet_criterion_is_the_integral_over_the_simplex(votes):
    seen = [count for count in votes if count]
    if len(seen) == 1:
        # One answer was seen: it is compared with one that was not, which is the Beta criterion.
        assert confidence_in_majority(votes, "dirichlet") == pytest.approx(confidence_in_majority(votes), abs=1e-8)
        return

    def density(q, p):
        return p ** votes[0] * q ** votes[1] * max(1 - p - q, 0.0) ** votes[2]

    everywhere = dblquad(density, 0, 1, 0, lambda p: 1 - p, epsabs=1e-10)[0]
    # p is the largest where q < p and 1 - p - q < p.
    largest = dblquad(
        density, 1 / 3, 1, lambda p: max(0.0, 1 - 2 * p), lambda p: max(0.0, min(p, 1 - p)), epsabs=1e-10
    )[0]
    assert confidence_in_majority(votes, "dirichlet") == pytest.approx(largest / everywhere, abs=1e-5)


def test_equal_votes_are_even_odds():
    assert confidence_in_majority([4, 4]) == pytest.approx(0.5)
    assert confidence_in_majority([2, 2, 2, 2], "dirichlet") == pytest.approx(0.25)
    assert confidence_in_majority([]) == 0.0


def test_sampling_stops_when_the_majority_is_settled():
    drawn = []

    def sampler():
        for answer in ["a", "a", "b", "a", "a", "a", "a", "b"]:
            drawn.append(answer)
            yield answer

    # Against one other vote, five are not enough: P(p > 1/2) of Beta(6, 2) is 0.9375, of Beta(7, 2) 0.965.
    stop = adaptive_consistency(sampler(), 0.95)
    assert stop == ("a", 7, True) and len(drawn) == 7
    # Four equal answers settle it at 0.95: 1 - 1/2^5 = 0.969, and three do not: 0.9375.
    assert adaptive_consistency(["a"] * 10).samples == 4
    assert adaptive_consistency(["a"] * 10, 0.9).samples == 3
    assert adaptive_consistency(["a", None, "b"]) == ("a", 3, False)
    assert adaptive_consistency([None, None]) == (None, 2, False)
    assert adaptive_consistency([], criterion="dirichlet") == (None, 0, False)
    with pytest.raises(ValueError, match="unknown criterion 'gamma'"):
        adaptive_consistency(["a"], criterion="gamma")
    with pytest.raises(ValueError, match=r"confidence is 1\.0"):
        adaptive_consistency(["a"], 1.0)


K = np.array([1, 2, 4, 8, 16, 32, 64])


@pytest.mark.parametrize(("a", "b"), [(-2.5, -0.4), (-0.7, -0.9), (-6.0, -0.25)])
def test_a_power_law_is_found_again(a, b):
    law = fit_power_law(K, np.exp(a * K**b))
    assert (law.a, law.b) == pytest.approx((a, b), rel=1e-6)
    assert law.r_squared == pytest.approx(1) and law.largest_residual < 1e-9
    np.testing.assert_allclose(law(K), np.exp(a * K**b), rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_a_noisy_power_law_and_its_errors_are_those_of_scipy(seed):
    noise = np.random.default_rng(seed).normal(scale=0.02, size=len(K))
    curve = np.clip(np.exp(-2.5 * K**-0.5) + noise, 0, 1)
    parameters, covariance = curve_fit(lambda k, a, b: np.exp(a * k**b), K, curve, p0=[-2, -0.4])
    law = fit_power_law(K, curve)
    assert (law.a, law.b) == pytest.approx(parameters, rel=1e-4)
    assert (law.a_stderr, law.b_stderr) == pytest.approx(np.sqrt(np.diag(covariance)), rel=1e-3)
    residuals = curve - np.exp(parameters[0] * K ** parameters[1])
    assert law.r_squared == pytest.approx(1 - np.var(residuals) / np.var(curve), abs=1e-3)


def test_standard_errors_over_prompts_are_the_spread_of_repeated_experiments():
    """Points of a curve come from the same samples; what counts is how the fit varies with the prompts."""
    generator = np.random.default_rng(4)
    prompts, size = 200, 64
    found, claimed = [], []
    for _ in range(150):
        right = generator.binomial(size, generator.beta(0.3, 3, size=prompts))
        values = pass_at_k(size, right[:, None], K)
        law = fit_power_law(K, values.mean(axis=0), np.cov(values, rowvar=False) / prompts)
        found.append((law.a, law.b))
        claimed.append((law.a_stderr, law.b_stderr))
    spread = np.std(found, axis=0)
    assert np.mean(claimed, axis=0) == pytest.approx(spread, rel=0.2)


def test_what_cannot_be_fitted_is_said():
    with pytest.raises(ValueError, match="3 values of k, fewer than 4"):
        fit_power_law([1, 2, 3], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="no sample is right"):
        fit_power_law(K, np.zeros(len(K)))
    with pytest.raises(ValueError, match="does not change with k"):
        fit_power_law(K, np.ones(len(K)))
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit_power_law(K, np.linspace(0, 1.1, len(K)))
    # Curves that reach 0 or 1 are fitted.
    assert isinstance(fit_power_law(K, [0, 0.2, 0.5, 0.8, 0.95, 1, 1]), PowerLaw)
