"""One network for a whole front: what each preference is trained for, and what it learns in a known world."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from outcome_world import World
from test_outcomes import BEHAVIORS, QUALITY, TRAINING, ends_alike_after_a_kill, options

from adaptive_samplers import AdaptiveSampler
from adaptive_samplers.files import read_json
from adaptive_samplers.samplers import ARCHITECTURES, build_sampler
from adaptive_samplers.training import TrainingSettings, evaluate, train
from adaptive_samplers.training.objectives import OBJECTIVES
from adaptive_samplers.training.objectives.outcome import advantages
from adaptive_samplers.training.outcomes import outcomes_of
from adaptive_samplers.training.train_on_outcomes import distance_weight_of, train_on_outcomes
from adaptive_samplers.training.trainer import (
    MEASURED_PREFERENCES,
    Predictor,
    TokenSteps,
    evaluate_at_preferences,
    preference_at,
)

NAME = "ConditionedSamplingNetwork"
SMALL = {"d_model": 8, "d_ff": 12, "n_blocks": 1, "n_heads": 2, "d_preference": 6}


def some_answers():
    return SimpleNamespace(
        reward=torch.tensor([1.0, 0.0, 0.5, 0.2]),
        prompt=torch.zeros(4, dtype=torch.long),
        behavior=torch.arange(4),
        seed=torch.tensor([0, 1, 0, 1]),
        draw=torch.arange(4),
        vectors=torch.eye(3)[[0, 0, 1, 2]],
        distance_weight=1.0,
    )


def test_a_preference_weighs_the_distance_against_the_reward():
    batch, weights = some_answers(), torch.tensor([1.0, 2.0, 3.0, 4.0])
    of_reward = batch.reward - batch.reward.mean()
    of_distance = advantages(SimpleNamespace(**vars(batch) | {"reward": torch.zeros(4)}), weights, 1)
    for preference in (0.0, 0.25, 1.0):
        found = advantages(batch, weights, 1, preference)
        torch.testing.assert_close(found, (1 - preference) * of_reward + preference * of_distance)
    best = advantages(SimpleNamespace(**vars(batch) | {"vectors": None}), weights, 3)
    torch.testing.assert_close(advantages(batch, weights, 3, 0.0), best)
    torch.testing.assert_close(advantages(batch, weights, 3, 1.0), of_distance)


def test_a_preference_weighs_the_best_of_several_against_the_mean():
    batch, weights = some_answers(), torch.tensor([1.0, 2.0, 3.0, 4.0])
    batch.vectors = None
    ends = [advantages(batch, weights, best_of) for best_of in (1, 4)]
    for preference in (0.0, 0.25, 1.0):
        found = advantages(batch, weights, 4, preference, "best_of")
        torch.testing.assert_close(found, torch.lerp(*ends, preference))


def test_distances_count_where_a_preference_weighs_them():
    weights = {"diversity": 0.3, "quality": 0.7, "correctness": 0.0}
    for kind, changes, architecture, expected in (
        ("outcome", {}, NAME, 1.0),
        ("outcome", {"front": "best_of", "best_of": 4}, NAME, 0.3),
        ("outcome", {}, "SamplingNetwork", 0.3),
        ("pairs", {}, NAME, 0.0),
    ):
        assert distance_weight_of(options(kind, **changes), weights, architecture) == expected


def test_preferences_follow_from_seed_and_step_and_cover_the_range():
    drawn = [preference_at(step, 7) for step in range(600)]
    assert drawn == [preference_at(step, 7) for step in range(600)] != [preference_at(step, 8) for step in range(600)]
    assert drawn.count(0.0) == pytest.approx(100, abs=3) and drawn.count(1.0) == pytest.approx(100, abs=3)
    inside = sorted(preference for preference in drawn if 0 < preference < 1)
    assert max(after - before for before, after in itertools.pairwise([0, *inside, 1])) < 0.01
    # A few steps are enough to cover it.
    assert {round(4 * preference) for preference in drawn[50:60]} == set(range(5))


def test_each_batch_is_seen_at_one_preference_and_validation_at_fixed_ones(monkeypatch, tmp_path):
    """Imitation trains all preferences alike."""
    generator = torch.Generator().manual_seed(0)
    t = (3 * torch.randn(24, 30, generator=generator)).sort(descending=True).values.log_softmax(-1)
    steps = TokenSteps(t, torch.ones_like(t), (0.7 * t).log_softmax(-1), torch.ones_like(t))
    sampler = build_sampler(NAME, SMALL, seed=1)
    seen = []
    forward = type(sampler).forward

    def observed(self, t, n, preference=None):
        seen.append(preference)
        return forward(self, t, n, preference)

    monkeypatch.setattr(type(sampler), "forward", observed)
    settings = TrainingSettings.from_config(TRAINING, 3, steps=40, evaluate_every=20, learning_rate=0.01)
    before = evaluate_at_preferences(sampler, steps, settings.loss)
    train(sampler, steps, steps, settings, tmp_path)
    validation = [*MEASURED_PREFERENCES] * 2
    drawn = [preference_at(step, 3) for step in range(40)]
    assert seen == [*validation, *drawn[:20], *MEASURED_PREFERENCES, *drawn[20:], *MEASURED_PREFERENCES]
    after = evaluate_at_preferences(sampler, steps, settings.loss)
    assert [*after] == ["0", "0.5", "1"]
    for preference, terms in after.items():
        assert terms["loss"] < before[preference]["loss"] / 2
    mean = sum(terms["kl"] for terms in after.values()) / 3
    assert evaluate(sampler, steps, settings.loss)["kl"] == pytest.approx(mean)


def test_the_loss_is_that_of_the_predictors_preference():
    logged = World.drawn(6, 5, seed=1).logged(BEHAVIORS, seeds=2, seed=2, embedded=True)
    batch = outcomes_of(logged, options("outcome"), 1.0, 3).select(slice(None))
    sampler, loss = build_sampler(NAME, SMALL, seed=1), OBJECTIVES["outcome"]()
    # Alike at all preferences before training, so that the gain is linear in the preference.
    with torch.no_grad():
        gains = [float(loss(Predictor(sampler, preference), batch).gain) for preference in (0.0, 0.5, 1.0)]
        default = float(loss(sampler, batch).gain)
    assert gains[1] == pytest.approx((gains[0] + gains[2]) / 2, abs=1e-6) and gains[0] != gains[2]
    assert default == pytest.approx(gains[1])


@pytest.fixture(scope="module")
def worlds():
    return {
        "train": World.drawn(40, 5, seed=21).logged(BEHAVIORS, seeds=4, seed=1, embedded=True),
        "validation": World.drawn(20, 5, seed=22).logged(BEHAVIORS, seeds=4, seed=2, embedded=True),
    }


def trained(worlds, objective, folder):
    train_on_outcomes(worlds, QUALITY, objective, NAME, ARCHITECTURES[NAME].options(**SMALL), TRAINING, 5, folder)
    return AdaptiveSampler.from_pretrained(folder), read_json(folder / "metrics.json")


def test_a_sampler_learns_a_front(worlds, tmp_path):
    """Better answers at one end and more different ones at the other, on prompts that it never saw."""
    objective = options("outcome", learning_rate=0.01, steps=30)
    sampler, metrics = trained(worlds, objective, tmp_path / "sampler")
    test = World.drawn(100, 5, seed=23)
    points = [
        (float(test.value(sampler.at(preference)).mean()), float(test.distance(sampler.at(preference)).mean()))
        for preference in (0, 0.5, 1)
    ]
    rewards, distances = zip(*points, strict=True)
    assert rewards[0] > rewards[1] > rewards[2] and rewards[0] > rewards[2] + 0.1
    assert distances[0] < distances[1] < distances[2] and distances[2] > distances[0] + 0.1
    assert [*metrics["at_preferences"]] == ["0", "0.5", "1"]
    assert metrics["gain"] == pytest.approx(sum(terms["gain"] for terms in metrics["at_preferences"].values()) / 3)


def test_a_killed_run_ends_as_an_undisturbed_one(worlds, tmp_path, monkeypatch):
    objective = options("outcome", steps=10, start_steps=20)
    assert ends_alike_after_a_kill(lambda folder: trained(worlds, objective, folder)[0], tmp_path, monkeypatch)
