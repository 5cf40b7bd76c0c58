"""Off-policy estimates: against sums over all answers, against plain loops, and in worlds whose truth is known."""

import itertools

import numpy as np
import pytest
import torch
from outcome_world import World

from adaptive_samplers.heuristics import configured_pipeline
from adaptive_samplers.off_policy import RecordedDraws, log_prob_of_answers
from adaptive_samplers.off_policy.estimates import (
    Estimates,
    LoggedAnswers,
    disagree,
    estimate,
    log_mixture,
    trusted,
    weigh,
)
from adaptive_samplers.off_policy.log_probs import equal_steps, log_probs_of_beginnings
from adaptive_samplers.samplers import build_sampler
from adaptive_samplers.training.objectives.outcome import usual

BEHAVIORS = {
    f"temperature_{degrees}": configured_pipeline([{"temperature": degrees}]) for degrees in (0.4, 0.7, 1.0, 1.3)
}
TARGETS = [
    configured_pipeline(steps)
    for steps in ([{"temperature": 0.4}], [{"temperature": 0.55}], [{"temperature": 0.9}], [{"top_k": 8}])
]


def estimated(logged, targets, horizon=None, resamples=300, confidence=0.9):
    log_probs = log_probs_of_beginnings(logged.pipelines, logged.draws, [horizon], logged.same).numpy()
    mixture = log_mixture(logged.answers, log_probs)[:, 0]
    of_targets = log_probs_of_beginnings(targets, logged.draws, [horizon], logged.same).numpy()[:, :, 0]
    weighted = weigh(logged.answers, of_targets, mixture)
    return weighted, *estimate(weighted, resamples, confidence, seed=0)


def test_beginnings_are_sums_of_the_first_steps():
    logged = World.drawn(3, 5, seed=1).logged(BEHAVIORS, seeds=2, seed=2)
    sampler = build_sampler("LocalProbabilityTransform", {"hidden_dims": 8}, seed=1)
    mirostat = configured_pipeline([{"mirostat": {"tau": 4.0, "eta": 0.3}}])
    alike = ([{"temperature": 0.4}, {"min_p": 0.1}], [], [{"temperature": 0.4}, {"top_p": 0.9}, {"top_k": 3}])
    samplers = [*TARGETS, sampler, mirostat, *map(configured_pipeline, alike)]
    found = log_probs_of_beginnings(samplers, logged.draws, [2, None, 50], logged.same)
    assert found.shape == (len(samplers), len(logged.draws), 3)
    assert torch.equal(found[:, :, 1], found[:, :, 2])
    first = logged.draws.select(torch.arange(len(logged.draws)), most_steps=2)
    for number, one in enumerate(samplers):
        torch.testing.assert_close(found[number, :, 1], log_prob_of_answers(one, logged.draws), rtol=0, atol=1e-5)
        torch.testing.assert_close(found[number, :, 0], log_prob_of_answers(one, first), rtol=0, atol=1e-5)
    even = torch.arange(len(logged.same)) % 5 % 2 == 0
    halves = [log_probs_of_beginnings(TARGETS, logged.draws, [None], None, counted) for counted in (even, ~even)]
    torch.testing.assert_close(sum(halves), found[: len(TARGETS), :, [1]])


def test_blocks_change_nothing(monkeypatch):
    logged = World.drawn(3, 5, seed=1).logged(BEHAVIORS, seeds=3, seed=2)
    whole = log_probs_of_beginnings(TARGETS, logged.draws, [None], logged.same)
    monkeypatch.setattr("adaptive_samplers.off_policy.log_probs.STEPS_AT_ONCE", 12)
    monkeypatch.setattr("adaptive_samplers.off_policy.log_probs.ROWS_AT_ONCE", 5)
    torch.testing.assert_close(log_probs_of_beginnings(TARGETS, logged.draws, [None], logged.same), whole)


def test_equal_steps_share_the_prompt_and_all_tokens_so_far():
    starts, tokens = torch.tensor([0, 3, 5, 8, 10]), torch.tensor([1, 2, 3, 1, 2, 1, 5, 3, 1, 2])
    assert equal_steps([0, 0, 0, 1], starts, tokens).tolist() == [0, 1, 2, 0, 1, 0, 6, 7, 8, 9]


def test_the_mixture_counts_every_behavior_as_often_as_it_answered():
    """Unbalanced: two answers of one behavior to the first prompt, none of another to the second."""
    answers = LoggedAnswers(
        np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), np.arange(4), np.zeros(4), np.array([0, 1, 2, 3])
    )
    log_probs = np.log(np.random.default_rng(0).uniform(0.1, 1, (2, 4, 1)))
    log_probs[1, 0] = -np.inf
    p = np.exp(log_probs[..., 0])
    expected = [*(2 / 3 * p[0, :3] + 1 / 3 * p[1, :3]), p[1, 3]]
    np.testing.assert_allclose(np.exp(log_mixture(answers, log_probs)[:, 0]), expected, rtol=1e-12)


def test_weights_and_estimates_as_in_plain_loops():
    logged = World.drawn(4, 3, seed=3).logged(BEHAVIORS, seeds=2, seed=4)
    weighted, found, _ = estimated(logged, TARGETS)
    answers = logged.answers
    assert weighted.mass.shape == (len(TARGETS), 4)
    own = {name: log_prob_of_answers(pipeline, logged.draws).exp().numpy() for name, pipeline in BEHAVIORS.items()}
    for number, target in enumerate(TARGETS):
        q = log_prob_of_answers(target, logged.draws).exp().numpy()
        total = gains = largest = 0.0
        for prompt in range(4):
            rows = np.flatnonzero(answers.prompts == prompt)
            rewards = answers.rewards[rows].reshape(len(BEHAVIORS), 2)
            # With two seeds, an answer is compared with those of the other one.
            others = np.tile(rewards.mean(0)[::-1], len(BEHAVIORS))
            w = np.array([q[row] / np.mean([p[row] for p in own.values()]) for row in rows])
            assert weighted.effective[number, prompt] == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-6)
            total += w.mean() / 4
            largest = max(largest, w.max() / len(w))
            gains += (w * (answers.rewards[rows] - others)).mean() / 4
        assert found.largest[number] == pytest.approx(largest / 4 / total, rel=1e-6)
        assert found.mean_weight[number] == pytest.approx(total, rel=1e-6)
        assert found.gain[number] == pytest.approx(gains / total, rel=1e-6)
        assert found.value[number] == pytest.approx(answers.rewards.mean() + gains / total, rel=1e-6)


def test_a_target_that_draws_none_of_the_answers_has_no_estimate():
    logged = World.drawn(3, 4, seed=3).logged({"hot": configured_pipeline([{"temperature": 50.0}])}, seeds=1, seed=4)
    _, found, _ = estimated(logged, [configured_pipeline([{"top_k": 1}]), configured_pipeline([{"temperature": 45.0}])])
    assert np.isnan(found.value[0]) and found.effective[0] == 0 and found.mean_weight[0] == 0
    assert trusted(found, 1.0, 1.5).tolist() == [False, False] or not trusted(found, 1.0, 1.5)[0]


def test_intervals_cover_the_truth_as_often_as_they_say():
    """Of all prompts that there could be: in each world other prompts are drawn, and other answers."""
    truth = [World.drawn(3000, 4, seed=99).value(target).mean() for target in TARGETS]
    covered = np.zeros(len(TARGETS))
    worlds = 60
    for world in range(worlds):
        logged = World.drawn(40, 4, seed=1000 + world).logged(BEHAVIORS, seeds=2, seed=world)
        _, found, _ = estimated(logged, TARGETS)
        covered += (found.low <= truth) & (truth <= found.high)
    # Of 60 at 90%, fewer than 46 have a chance of one in a thousand.
    assert (covered >= 46).all(), covered


@pytest.mark.parametrize("alike", [False, True])
def test_estimates_are_not_drawn_towards_the_mixture(alike):
    """An answer that is compared with a mean that it is part of counts against itself, and so do those that the same
    random numbers drew."""
    worlds = 150
    errors = np.empty((worlds, len(BEHAVIORS)))
    for number in range(worlds):
        world = World.drawn(40, 3, seed=number)
        logged = world.logged(BEHAVIORS, seeds=2, seed=500 + number, alike=alike)
        _, found, _ = estimated(logged, list(BEHAVIORS.values()))
        values = np.array([world.value(pipeline).mean() for pipeline in BEHAVIORS.values()])
        errors[number] = found.gain - (values - values.mean())
    bound = 3.5 * errors.std(axis=0) / worlds**0.5
    assert (np.abs(errors.mean(axis=0)) < bound).all(), (errors.mean(axis=0), bound)


def test_what_answers_are_compared_with():
    generator = np.random.default_rng(5)
    behaviors = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 1)]  # of the third there is one answer
    rewards = generator.normal(size=(2, len(behaviors)))
    columns = np.array(behaviors * 2)
    answers = LoggedAnswers(np.repeat([0, 1], 6), columns[:, 0], columns[:, 1], rewards.ravel(), np.arange(12))
    found = answers.baselines.reshape(2, 6)
    for prompt in range(2):
        r = rewards[prompt]
        first = [(r[1] + r[2]) / 2, r[1], r[2], r[4], r[4], r[5]]  # what stands for the answers under seed 0
        second = [r[0], (r[0] + r[2]) / 2, r[2], r[3], r[4], r[5]]
        third = [r[0], r[1], (r[0] + r[1]) / 2, r[3], r[3], r[5]]
        expected = [np.mean(one) for one in (first, second, third)]
        np.testing.assert_allclose(found[prompt], [expected[seed] for _, seed in behaviors])
        of_prompt = (torch.from_numpy(column) for column in (r, *columns[:6].T))
        np.testing.assert_allclose(usual(*of_prompt), found[prompt])


def test_short_horizons_estimate_a_sampler_that_the_mixture_follows():
    world = World.drawn(60, 6, seed=5)
    logged = world.logged(BEHAVIORS, seeds=4, seed=6)
    mean = np.mean([world.value(pipeline).mean() for pipeline in BEHAVIORS.values()])
    short, full = (estimated(logged, TARGETS, horizon)[1] for horizon in (2, None))
    assert (short.effective > full.effective).all()
    assert (np.abs(short.gain_high - short.gain_low) < np.abs(full.gain_high - full.gain_low)).all()
    for number, target in enumerate(TARGETS):
        assert full.gain[number] == pytest.approx(world.value(target).mean() - mean, abs=0.06)


def test_what_is_trusted():
    columns = {name: np.ones(4) for name in Estimates._fields}
    found = Estimates(
        **columns
        | {"effective": np.array([5.0, 3, 5, 5]), "mean_weight": np.array([0.9, 1, 1.5, 1])}
        | {"value": np.array([1.0, 1, 1, np.nan])}
    )
    assert trusted(found, 4.0, 1.33).tolist() == [True, False, False, False]


def test_horizons_that_disagree_are_flagged_where_both_are_trusted():
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 0.1, (500, 3))
    gains = [noise, noise + np.array([0.0, 0.5, 0.5]) + generator.normal(0, 0.01, (500, 3))]
    shown = np.array([[True, True, True], [True, True, False]])
    assert disagree(gains, shown, 0.9).tolist() == [False, True, False]


def test_prompts_are_in_order():
    columns = (np.zeros(2, int), np.arange(2), np.zeros(2), np.arange(2))
    with pytest.raises(ValueError, match="prompts in order"):
        LoggedAnswers(np.array([1, 0]), *columns)
    answers = LoggedAnswers(np.array([0, 1]), *columns)
    with pytest.raises(ValueError, match="every prompt must keep an answer"):
        answers.only(np.array([True, False]))
    assert answers.means.tolist() == [0, 0] and len(answers.only(np.array([True, True]))) == 2


def test_draws_are_joined_and_selected():
    logged = World.drawn(2, 3, seed=3).logged(BEHAVIORS, seeds=1, seed=4)
    draws = logged.draws
    order = torch.tensor([5, 0, 3])
    parts = [draws.select(order), draws.select(order, most_steps=2)]
    joined = RecordedDraws.joined(parts)
    assert joined.starts.tolist() == list(itertools.accumulate([0, 3, 3, 3, 2, 2, 2]))
    assert torch.equal(joined.ranks[:3], draws.ranks[draws.span(5)])
    assert torch.equal(joined.sketch.t[9:11], draws.sketch.t[draws.span(5)][:2])
