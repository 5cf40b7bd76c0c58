"""Objectives on recorded draws: against plain loops and enumeration, and what samplers learn in a known world."""

import itertools
import math
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch
from outcome_world import World
from pydantic import create_model

from adaptive_samplers import AdaptiveSampler
from adaptive_samplers.config.model.training import Training
from adaptive_samplers.errors import UserError
from adaptive_samplers.files import read_json
from adaptive_samplers.heuristics import configured_pipeline
from adaptive_samplers.off_policy import log_prob_of_answers
from adaptive_samplers.samplers import ARCHITECTURES, build_sampler
from adaptive_samplers.training.objectives import OBJECTIVES
from adaptive_samplers.training.objectives.outcome import advantages, best_with_others, log_prob_of_batch
from adaptive_samplers.training.objectives.pairs import pairs_of
from adaptive_samplers.training.outcomes import (
    behavior_log_probs,
    best_behavior,
    longest_horizon,
    outcomes_of,
)
from adaptive_samplers.training.train_on_outcomes import train_on_outcomes, with_reference

BEHAVIORS = {f"t{degrees}": configured_pipeline([{"temperature": degrees}]) for degrees in (0.4, 0.7, 1.0, 1.3)}
SIMPLE = ("SimpleDistributionAwareTransform", {"hidden_dims": 16, "use_dynamic_truncation": True})
TRAINING = Training(learning_rate=0.01, batch_size=64, steps=50, warmup_steps=5, evaluate_every=25)
QUALITY = {"diversity": 0.0, "quality": 1.0, "correctness": 0.0}


def options(kind, **changes):
    """An entry of `training.objectives`."""
    entry = create_model("Entry", __base__=OBJECTIVES[kind].options, kind=(Literal[kind], kind))
    return entry(**changes)


@pytest.fixture(scope="module")
def logged():
    return World.drawn(6, 5, seed=1).logged(BEHAVIORS, seeds=2, seed=2)


@pytest.fixture(scope="module")
def sampler():
    return build_sampler(*SIMPLE, seed=3)


def test_a_batch_has_the_log_probabilities_of_its_answers(logged, sampler):
    outcomes = outcomes_of(logged, options("outcome"), 0.0, None)
    expected = log_prob_of_answers(sampler, logged.draws).float()
    for prompts in (slice(None), torch.tensor([4, 1]), slice(2, 3)):
        batch = outcomes.select(prompts)
        found = log_prob_of_batch(sampler, batch)
        of_answers = np.concatenate(
            [np.flatnonzero(logged.answers.prompts == prompt) for prompt in np.arange(6)[prompts]]
        )
        torch.testing.assert_close(found[batch.draw], expected[of_answers], rtol=0, atol=1e-4)
        assert batch.reward.tolist() == pytest.approx(logged.answers.rewards[of_answers].tolist())
        assert len(batch) == len(np.arange(6)[prompts]) and (batch.lengths == 5).all()
        # Steps that answers share are there once.
        assert len(batch.t) == len(torch.unique(batch.steps)) < len(batch.steps)


def test_steps_beyond_the_horizon_and_sure_ones_do_not_count(logged, sampler):
    first = logged.draws.select(torch.arange(len(logged.draws)), most_steps=2)
    outcomes = with_reference(outcomes_of(logged, options("outcome"), 0.0, 2), sampler)
    batch = outcomes.select(slice(None))
    assert (batch.lengths == 2).all()
    torch.testing.assert_close(
        log_prob_of_batch(sampler, batch), log_prob_of_answers(sampler, first).float(), rtol=0, atol=1e-4
    )
    torch.testing.assert_close(batch.reference, log_prob_of_batch(sampler, batch), rtol=0, atol=1e-4)
    bound = float(logged.draws.sketch.t[:, 0].exp().median())
    surely = outcomes_of(logged, options("outcome", sure=bound), 0.0, None)
    assert (surely.counted == (logged.draws.sketch.t[:, 0] <= math.log(bound))).all()
    assert surely.mixture == pytest.approx(
        np.logaddexp.reduce(behavior_log_probs(logged, bound, [None])[:, :, 0], axis=0) - math.log(4)
    )


def test_the_outcome_loss_as_in_plain_loops(logged, sampler):
    outcomes = with_reference(outcomes_of(logged, options("outcome"), 0.0, 3), build_sampler(*SIMPLE, seed=8))
    batch = outcomes.select(slice(None))
    chosen = {"least_effective": 0.9, "effective_penalty": 0.7, "weight_penalty": 1.3, "kl": 0.2, "entropy": 0.4}
    terms = OBJECTIVES["outcome"](**chosen)(sampler, batch)
    q, reference = log_prob_of_batch(sampler, batch).detach().double(), batch.reference.double()
    gain, mass, few, share, kl, entropy = 0.0, 0.0, 0.0, 0.0, [0.0, 0.0], 0.0
    for prompt in range(6):
        rows = np.flatnonzero(logged.answers.prompts == prompt)
        w = torch.exp(q[rows] - torch.from_numpy(outcomes.mixture[rows]))
        rewards = torch.from_numpy(logged.answers.rewards[rows])
        # With two seeds, an answer is compared with those of the other one.
        others = rewards.reshape(len(BEHAVIORS), 2).mean(0).flip(0).repeat(len(BEHAVIORS))
        gain += float((w * (rewards - others)).mean()) / 6
        mass += float(w.mean()) / 6
        effective = float(w.sum() ** 2 / (w**2).sum()) / len(rows)
        share += effective / 6
        few += max(0.0, math.log(0.9) - math.log(effective)) ** 2 / 6
        kl[0] += float((w * (q[rows] - reference[rows]) / 3).sum())
        kl[1] += float(w.sum())
        entropy -= float((w * q[rows] / 3).sum())
    expected = -gain / mass + 0.7 * few + 1.3 * math.log(mass) ** 2 + (0.2 * kl[0] - 0.4 * entropy) / kl[1]
    assert terms.loss.item() == pytest.approx(expected, rel=1e-4)
    assert terms.gain.item() == pytest.approx(gain / mass, rel=1e-4)
    assert terms.mean_weight.item() == pytest.approx(mass, rel=1e-4)
    assert terms.effective.item() == pytest.approx(share, rel=1e-4)
    assert terms.entropy.item() == pytest.approx(entropy / kl[1], rel=1e-4)


def test_a_bonus_for_entropy_heats():
    """The gradient by an inverse temperature is that of the entropy itself, where the sampler drew the answers."""
    alone = World.drawn(40, 4, seed=2).logged({"t1.0": BEHAVIORS["t1.0"]}, seeds=60, seed=3)
    batch = outcomes_of(alone, options("outcome"), 0.0, None).select(slice(None))
    inverse = torch.ones((), requires_grad=True)
    options_of_it = {"entropy": 1.0, "effective_penalty": 0.0, "weight_penalty": 0.0}
    terms = OBJECTIVES["outcome"](**options_of_it)(lambda t, n: t * inverse, batch)
    [found] = torch.autograd.grad(terms.entropy, inverse)
    rows = alone.draws.sketch.t.double(), alone.draws.sketch.n.double()

    def exact(factor):
        logits = rows[0] * factor
        log_q = logits - (logits + rows[1].log()).logsumexp(-1, keepdim=True)
        return float(-(rows[1] * log_q.exp() * log_q.where(rows[1] > 0, 0)).nan_to_num().sum(-1).mean())

    slope = (exact(1.001) - exact(0.999)) / 0.002
    assert terms.entropy.item() == pytest.approx(exact(1.0), rel=0.02) and found.item() == pytest.approx(slope, rel=0.1)


@pytest.mark.parametrize("factor", [40.0, -40.0, 1e4])
def test_a_sampler_far_from_all_answers_is_told_the_way_back(logged, factor):
    """All weights underflow, or one is beyond float32: the loss and its gradient stay finite, and pull back."""
    scale = torch.tensor(factor, requires_grad=True)
    batch = outcomes_of(logged, options("outcome"), 0.0, None).select(slice(None))
    terms = OBJECTIVES["outcome"]()(lambda t, n: t * scale, batch)
    assert all(term.isfinite() for term in terms)
    terms.loss.backward()
    assert scale.grad.isfinite() and math.copysign(1, scale.grad.item()) == math.copysign(1, factor)


@pytest.mark.parametrize("k", [2, 3])
def test_the_best_of_several_by_enumeration(k):
    generator = torch.Generator().manual_seed(k)
    reward = torch.tensor([0.0, 1.0, 0.5, 1.0, -2.0])
    weight = torch.rand(5, generator=generator)
    expected = []
    for mine in range(5):
        others = [other for other in range(5) if other != mine]
        total = 0.0
        for chosen in itertools.product(others, repeat=k - 1):
            chance = math.prod(float(weight[other]) for other in chosen) / float(weight[others].sum()) ** (k - 1)
            best = max(float(reward[other]) for other in chosen)
            total += chance * (max(float(reward[mine]), best) - best)
        expected.append(total)
    assert best_with_others(reward, weight, k).tolist() == pytest.approx(expected, abs=1e-6)


def test_advantages_of_the_best_of_k_are_its_gradient(logged):
    """Moving weight to an answer moves pass@k as its advantage says, in the limit of many answers."""
    reward = torch.tensor([1.0] * 30 + [0.0] * 70)
    one = torch.zeros(100, dtype=torch.long)
    batch = SimpleNamespace(reward=reward, prompt=one, behavior=torch.arange(100), seed=one, vectors=None)
    found = advantages(batch, torch.ones(100), best_of=4)
    slope = 4 * (1 - 0.3) ** 3  # of 1 - (1 - p)^4 in p
    assert float(found[0] - found[-1]) == pytest.approx(slope, rel=0.05)
    assert float(found.mean()) == pytest.approx(0, abs=1e-6)
    plain = advantages(batch, torch.rand(100), best_of=1)
    torch.testing.assert_close(plain, reward - 0.3)


def test_distance_counts_between_answers_of_different_seeds():
    vectors = torch.eye(3)[[0, 0, 1, 2]]
    batch = SimpleNamespace(
        reward=torch.zeros(4),
        prompt=torch.zeros(4, dtype=torch.long),
        behavior=torch.arange(4),
        seed=torch.tensor([0, 1, 0, 1]),
        draw=torch.arange(4),
        vectors=vectors,
        distance_weight=0.5,
    )
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    # Each with those of the other seed: (0, with 1 and 3), (1, with 0 and 2), ...
    expected = torch.tensor([4 / 6, 3 / 4, 1.0, 1.0])
    torch.testing.assert_close(advantages(batch, weights, 1), expected - expected.mean())


def test_pairs_are_the_best_and_worst_of_a_seed():
    batch = SimpleNamespace(
        prompt=torch.tensor([0, 0, 0, 0, 0, 1, 1]),
        seed=torch.tensor([5, 2, 5, 2, 5, 2, 2]),
        reward=torch.tensor([1.0, 0.0, 3.0, 0.0, -1.0, 2.0, 1.0]),
    )
    better, worse = pairs_of(batch)
    assert sorted(zip(better.tolist(), worse.tolist(), strict=True)) == [(2, 4), (5, 6)]


def test_the_loss_of_pairs(logged, sampler):
    outcomes = with_reference(outcomes_of(logged, options("pairs"), 0.0, None), build_sampler(*SIMPLE, seed=8))
    batch = outcomes.select(slice(None))
    terms = OBJECTIVES["pairs"](beta=3.0)(sampler, batch)
    gains = ((log_prob_of_batch(sampler, batch).detach() - batch.reference) / 5)[batch.draw]
    losses = [
        math.log1p(math.exp(-3.0 * float(gains[better] - gains[worse])))
        for better, worse in zip(*(rows.tolist() for rows in pairs_of(batch)), strict=True)
    ]
    assert terms.loss.item() == pytest.approx(np.mean(losses), rel=1e-4) and len(losses) > 6


def test_the_horizon_leaves_as_many_answers_as_are_asked_for(logged):
    horizons = (1, 2, 3, 5)
    log_probs = behavior_log_probs(logged, None, horizons)
    shares = []
    for at in range(len(horizons)):
        mixture = np.logaddexp.reduce(log_probs[:, :, at], axis=0) - math.log(4)
        w = np.exp(log_probs[0, :, at] - mixture).reshape(6, -1)
        shares.append((w.sum(1) ** 2 / (w**2).sum(1) / w.shape[1]).mean())
    assert sorted(shares, reverse=True) == shares
    for at in range(len(horizons)):
        assert longest_horizon(logged.answers, log_probs, 0, shares[at] - 1e-9) == at
    assert longest_horizon(logged.answers, log_probs, 0, 0.999) == 0


def test_training_begins_with_the_best_behavior():
    world = World.drawn(200, 5, seed=7)
    values = [world.value(pipeline).mean() for pipeline in BEHAVIORS.values()]
    assert best_behavior(world.logged(BEHAVIORS, seeds=4, seed=8), 0.0) == int(np.argmax(values))
    stateful = {"m": configured_pipeline([{"mirostat": {"tau": 3.0, "eta": 0.1}}])}
    logged = world.logged(BEHAVIORS, seeds=1, seed=8)
    with pytest.raises(UserError, match="no heuristic is without state"):
        best_behavior(SimpleNamespace(answers=logged.answers, pipelines=list(stateful.values())), 0.0)


@pytest.fixture(scope="module")
def trained_worlds():
    return {
        "train": World.drawn(60, 5, seed=21).logged(BEHAVIORS, seeds=4, seed=1),
        "validation": World.drawn(20, 5, seed=22).logged(BEHAVIORS, seeds=4, seed=2),
    }


def trained(worlds, objective, folder):
    name, arguments = SIMPLE
    arguments = ARCHITECTURES[name].options(**arguments)
    train_on_outcomes(worlds, QUALITY, objective, name, arguments, TRAINING, 5, folder)
    return AdaptiveSampler.from_pretrained(folder), read_json(folder / "metrics.json")


@pytest.mark.parametrize(
    ("kind", "changes", "gain"),
    [("outcome", {"steps": 40}, 0.05), ("best_answers", {"steps": 40}, 0.0), ("pairs", {"steps": 40}, 0.02)],
)
def test_a_sampler_learns_what_no_heuristic_can(kind, changes, gain, trained_worlds, tmp_path):
    """Against what it began with, and against every temperature, on prompts that it never saw."""
    test = World.drawn(150, 5, seed=23)
    sampler, metrics = trained(trained_worlds, options(kind, learning_rate=0.01, **changes), tmp_path / "sampler")
    assert metrics["split"] == "validation" and metrics["start_kl"] < 0.01
    temperatures = [configured_pipeline([{"temperature": degrees}]) for degrees in np.arange(0.2, 1.5, 0.1).tolist()]
    best = max(test.value(pipeline).mean() for pipeline in temperatures)
    assert test.value(sampler).mean() > best + gain


def ends_alike_after_a_kill(train_in, folder, monkeypatch):
    """Whether `train_in`, a function of a folder, ends with the same weights if it is killed in its 27th step."""
    whole = train_in(folder / "whole")
    module = __import__("adaptive_samplers.training.trainer", fromlist=["training_step"])
    count, step = itertools.count(), module.training_step

    def dying(*arguments):
        if next(count) == 26:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(module, "training_step", dying)
    with pytest.raises(KeyboardInterrupt):
        train_in(folder / "killed")
    again = train_in(folder / "killed").state_dict()
    assert next(count) < 50, "it should have gone on where it was"
    return all(torch.equal(tensor, again[name]) for name, tensor in whole.state_dict().items())


def test_a_killed_run_ends_as_an_undisturbed_one(trained_worlds, tmp_path, monkeypatch):
    objective = options("outcome", steps=10, start_steps=20)
    assert ends_alike_after_a_kill(lambda folder: trained(trained_worlds, objective, folder)[0], tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("start", "words"), [("top_k_5", "no answer of a heuristic 'top_k_5'"), ("mirostat_tau_3_eta_0.1", "has a state")]
)
def test_what_training_cannot_begin_with(start, words, trained_worlds, tmp_path):
    world = World.drawn(4, 3, seed=5)
    behaviors = BEHAVIORS | {"m": configured_pipeline([{"mirostat": {"tau": 3.0, "eta": 0.1}}])}
    logged = world.logged(BEHAVIORS, seeds=1, seed=1)
    logged = type(logged)(**vars(logged) | {"behaviors": behaviors})
    with pytest.raises(UserError, match=words):
        trained({"train": logged, "validation": logged}, options("outcome", start=start), tmp_path / "sampler")
