"""Rounds of learning from outcomes: what is accepted, what is gone on from, and that rewards rise."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from outcome_world import World
from test_outcomes import BEHAVIORS, QUALITY, SIMPLE, TRAINING, options

from adaptive_samplers.errors import UserError
from adaptive_samplers.figures.rounds import rounds
from adaptive_samplers.files import read_json
from adaptive_samplers.heuristics import Processor, pipeline_name
from adaptive_samplers.samplers import ARCHITECTURES, build_sampler
from adaptive_samplers.training.outcomes import own_values
from adaptive_samplers.training.rounds import judge_round, start_of_round, table_of_rounds, take_over_weights
from adaptive_samplers.training.train_on_outcomes import train_on_outcomes

GOOD, BAD = list(BEHAVIORS).index("t0.7"), list(BEHAVIORS).index("t1.3")


def learned(folder):
    return (Processor("learned", (str(folder),)),)


@pytest.fixture(scope="module")
def logged():
    return World.drawn(120, 5, seed=3).logged(BEHAVIORS, seeds=3, seed=4)


def test_values_of_own_answers_are_mean_rewards_and_distances(logged):
    vectors = torch.nn.functional.normalize(torch.randn(len(logged.draws), 4, generator=torch.manual_seed(1)), dim=1)
    found = own_values(replace(logged, vectors=vectors), GOOD, 0.5)
    answers = logged.answers
    for prompt in (0, 57, 119):
        rows = [i for i in range(len(answers)) if (answers.prompts[i], answers.behaviors[i]) == (prompt, GOOD)]
        distances = [float(1 - vectors[i] @ vectors[j]) for i in rows for j in rows if i != j]
        assert found[prompt] == pytest.approx(answers.rewards[rows].mean() + 0.5 * np.mean(distances), abs=1e-6)
    other = answers.only((answers.behaviors != GOOD) | (answers.prompts > 0))
    assert np.isnan(own_values(replace(logged, answers=other), GOOD, 0.0)).tolist() == [True] + [False] * 119


def test_only_what_is_better_on_enough_prompts_is_accepted(logged):
    better = judge_round(logged, GOOD, BAD, 0.0, options("outcome"), seed=1)
    expected = (own_values(logged, GOOD, 0.0) - own_values(logged, BAD, 0.0)).mean()
    assert better.accepted and better.n_prompts == 120 and better.difference == pytest.approx(expected)
    assert 0 < better.low < better.difference < better.high
    assert (better.sampler, better.other) == ("temperature_0.7", "temperature_1.3")
    assert not judge_round(logged, BAD, GOOD, 0.0, options("outcome"), seed=1).accepted
    assert not judge_round(logged, GOOD, GOOD, 0.0, options("outcome"), seed=1).accepted, "no better than itself"
    assert not judge_round(logged, GOOD, BAD, 0.0, options("outcome", accept_prompts=121), seed=1).accepted


def test_equal_samplers_are_accepted_as_rarely_as_the_interval_says():
    """Two copies of a heuristic: 5 % of the intervals of 90 % are above 0."""
    twins = {"one": BEHAVIORS["t0.7"], "two": (*BEHAVIORS["t0.7"], Processor("top_k", (300,)))}
    accepted = 0
    for world in range(60):
        logged = World.drawn(100, 2, seed=world).logged(twins, seeds=1, seed=1000 + world, top=8, tail=4)
        accepted += judge_round(logged, 0, 1, 0.0, options("outcome"), seed=world).accepted
    assert accepted <= 9


def test_weights_are_taken_over_from_a_sampler_of_the_same_kind_alone(tmp_path):
    saved = build_sampler(*SIMPLE, seed=8)
    saved.lowest_log_prob = -20.0
    saved.save_pretrained(tmp_path / "saved")
    like, unlike = build_sampler(*SIMPLE, seed=1), build_sampler(SIMPLE[0], {"hidden_dims": 8}, seed=1)
    assert take_over_weights(like, learned(tmp_path / "saved"))
    assert all(torch.equal(one, other) for one, other in zip(like.parameters(), saved.parameters(), strict=True))
    assert not take_over_weights(unlike, learned(tmp_path / "saved"))
    assert not take_over_weights(like, (*learned(tmp_path / "saved"), Processor("top_k", (5,))))
    assert not take_over_weights(like, BEHAVIORS["t0.7"])


def test_samplers_of_later_generations_have_names_of_their_own():
    folders = ("results/r/samplers/A/L", "results/r/sampler_generation=2/samplers/A/L", "/elsewhere/A/L", "L")
    assert [pipeline_name(learned(folder)) for folder in folders] == [
        "learned_A/L",
        "learned_A/L@2",
        "learned_A/L",
        "learned_L",
    ]


def test_a_round_needs_the_answers_of_both(logged, trained_rounds):
    folder = trained_rounds[0]
    with pytest.raises(UserError, match=r"no answers of learned_.*sampler_generations\.samplers"):
        start_of_round(folder, logged, 0.0, options("outcome"), seed=1)


@pytest.fixture(scope="module")
def trained_rounds(tmp_path_factory):
    """A sampler and three rounds: in each, the samplers so far answer too, and the next one goes on."""
    place, folders = tmp_path_factory.mktemp("rounds"), []
    objective = options("outcome", start_steps=100, steps=8, learning_rate=0.003, rounds=True)
    behaviors = {"t1.3": BEHAVIORS["t1.3"]}
    for number in range(4):
        worlds = {
            "train": World.drawn(60, 5, seed=21).logged(behaviors, seeds=4, seed=100 + number),
            "validation": World.drawn(150, 5, seed=22).logged(behaviors, seeds=4, seed=200 + number),
        }
        folder = place / f"sampler_generation={number + 1}" / "samplers" / SIMPLE[0] / "a0_b1_c0_outcome"
        folder.parent.mkdir(parents=True)
        arguments = ARCHITECTURES[SIMPLE[0]].options(**SIMPLE[1])
        previous = folders[-1] if folders else None
        train_on_outcomes(worlds, QUALITY, objective, SIMPLE[0], arguments, TRAINING, 5, folder, previous)
        folders.append(folder)
        behaviors[f"learned {number}"] = learned(folder)
    return folders


def test_rewards_rise_over_rounds(trained_rounds):
    """What samplers are worth on prompts that none saw is known exactly in a world."""
    test = World.drawn(150, 5, seed=23)
    values = [test.value(learned(folder)).mean() for folder in trained_rounds]
    assert np.diff(values).min() > 0.01 and values[-1] > values[0] + 0.1
    metrics = [read_json(folder / "metrics.json") for folder in trained_rounds]
    assert metrics[0]["round"] is None and metrics[0]["start"] == "temperature_1.3"
    assert metrics[1]["round"]["accepted"] and metrics[1]["start_kl"] == 0
    table = table_of_rounds(enumerate(trained_rounds[1:], start=2))
    assert table["generation"].tolist() == [1, 2, 3] and table["accepted"].all()
    assert rounds(table).axes[0].get_title(loc="left") == "a0_b1_c0_outcome"
