"""A sampler that takes a preference: at each an ordinary network, in logits, pipelines, `generate` and an engine."""

import copy
import json

import pytest
import torch
from test_samplers import perturbed
from test_sketch import zipf_logits
from torch.func import functional_call

from adaptive_samplers import AdaptiveSampler
from adaptive_samplers.engines.base import Request, sampler_hashes
from adaptive_samplers.engines.transformers_engine import TransformersEngine
from adaptive_samplers.errors import UserError
from adaptive_samplers.heuristics import apply_on_support, apply_to_logits, configured_pipeline, learned_heuristic
from adaptive_samplers.off_policy import log_prob_of_answers
from adaptive_samplers.off_policy.draws import RecordedDraws
from adaptive_samplers.samplers import ARCHITECTURES, SamplingNetwork, build_sampler, evaluated
from adaptive_samplers.samplers.base import load_sampler
from adaptive_samplers.sketch import DistributionSketch

SMALL = {"d_model": 8, "d_ff": 12, "n_blocks": 2, "n_heads": 2, "d_preference": 5}
NAME = "ConditionedSamplingNetwork"


@pytest.fixture
def sampler():
    return perturbed(NAME, SMALL, seed=2)


@pytest.fixture
def folder(sampler, tmp_path):
    sampler.save_pretrained(tmp_path / "sampler")
    return str(tmp_path / "sampler")


def distance(a, b):
    """Total variation of two logits' distributions, the largest."""
    return float((a.double().softmax(-1) - b.double().softmax(-1)).abs().sum(-1).max() / 2)


@torch.no_grad()
def test_at_a_preference_it_is_the_network_with_shifted_biases(sampler):
    sampler.double()
    logits = zipf_logits(3, 200).double()
    for preference in (0, 0.3, 1.0):
        fixed = sampler.at(preference)
        assert type(fixed) is SamplingNetwork and fixed.encoder.mlp.down_proj.bias.dtype == torch.float64
        t, n = logits.log_softmax(-1), torch.ones(3, 200, dtype=torch.float64)
        shifted = functional_call(sampler.network, sampler.biases(preference), (t, n))
        torch.testing.assert_close(fixed(t, n), shifted, rtol=0, atol=1e-12)
        torch.testing.assert_close(sampler(t, n, preference), shifted, rtol=0, atol=1e-12)
        exact = sampler.logits(logits, exact=True, preference=preference)
        torch.testing.assert_close(exact, fixed.logits(logits, exact=True), rtol=0, atol=0)
        torch.testing.assert_close(exact.log_softmax(-1), shifted.log_softmax(-1), rtol=0, atol=1e-10)


def test_preferences_are_alike_before_training_and_differ_after(sampler):
    logits = zipf_logits(4, 500)
    new = build_sampler(NAME, SMALL, seed=1)
    assert distance(new.logits(logits, preference=0), new.logits(logits, preference=1)) == 0
    assert distance(sampler.logits(logits, preference=0), sampler.logits(logits, preference=1)) > 0.01
    torch.testing.assert_close(sampler.logits(logits), sampler.logits(logits, preference=0.5), rtol=0, atol=0)
    other = perturbed(NAME, {**SMALL, "preference": 0.0}, seed=2)
    torch.testing.assert_close(other.logits(logits), sampler.logits(logits, preference=0), rtol=0, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("preference", [0.0, 0.7])
def test_permuting_the_vocabulary_permutes_the_output_at_every_preference(sampler, preference):
    logits = zipf_logits(3, 1000)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    for exact in (False, True):
        output = sampler.logits(logits, exact, preference)
        torch.testing.assert_close(sampler.logits(logits[:, order], exact, preference), output[:, order])


@torch.no_grad()
def test_compiled_passes_agree_with_every_token_and_draws_follow(sampler):
    logits = zipf_logits(4, 20_000) / torch.tensor([0.5, 1, 1.5, 2])[:, None]
    for preference in (0.0, 0.9):
        exact = sampler.logits(logits, exact=True, preference=preference)
        assert distance(sampler.logits(logits, preference=preference), exact) < 1e-4
    drawn, same, other = (
        sampler.sample(logits, torch.Generator().manual_seed(3), preference=preference) for preference in (1, 1, 0)
    )
    assert torch.equal(drawn, same) and torch.equal(
        drawn, sampler.at(1).sample(logits, torch.Generator().manual_seed(3))
    )
    assert drawn.shape == other.shape == (4,)


def test_a_network_is_made_once_until_weights_change(sampler):
    state = torch.random.get_rng_state()
    fixed = sampler.at(0.25)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert sampler.at(0.25) is fixed is not sampler.at(0.26)
    with torch.inference_mode():
        made = sampler.at(0.4)
    assert not any(parameter.is_inference() for parameter in made.parameters())
    with torch.no_grad():
        sampler.shifts.bias += 0.5
    assert sampler.at(0.25) is not fixed
    changed = sampler.at(0.25)
    sampler.load_state_dict(perturbed(NAME, SMALL, seed=9).state_dict())
    assert sampler.at(0.25) is not changed
    sampler.lowest_log_prob = -20.0
    assert sampler.at(0.25).lowest_log_prob == -20.0
    copied = copy.deepcopy(sampler)
    assert copied.at(0.25) is not sampler.at(0.25)
    for preference in range(100):
        sampler.at(preference / 100)
    with torch.inference_mode():
        loaded = build_sampler(NAME, SMALL, seed=0)
    assert loaded.at(0.1) is loaded.at(0.1)


def test_gradients_reach_every_parameter(sampler):
    sketch = DistributionSketch.from_logits(zipf_logits(2, 300), 20, 20)
    sampler(sketch.t, sketch.n, 0.2).log_softmax(-1)[:, :5].sum().backward()
    for name, parameter in sampler.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("preference", [-0.1, 1.5, float("nan"), "high", True])
def test_what_is_no_preference_is_refused(sampler, preference):
    calls = (sampler.at, sampler.as_logits_processor, lambda given: sampler.sample(torch.zeros(2), preference=given))
    for call in calls:
        with pytest.raises(UserError, match="preference: expected a number of at least 0 and at most 1, found"):
            call(preference)


def test_samplers_that_take_none_say_so(tmp_path):
    for name, declared in ARCHITECTURES.items():
        if not declared.conditioned:
            sampler = build_sampler(name, {}, seed=0)
            assert sampler.at(None) is sampler
            with pytest.raises(UserError, match=f"preference: {name} takes none: .*{NAME}"):
                sampler.logits(torch.zeros(3), preference=0.5)
    sampler.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=rf"{tmp_path}: preference: {type(sampler).__name__} takes none"):
        load_sampler(str(tmp_path), "cpu", 0.5)


def test_saved_and_loaded_it_is_the_same_at_every_preference(sampler, folder, tmp_path):
    logits = zipf_logits(2, 500)
    loaded = AdaptiveSampler.from_pretrained(folder)
    assert type(loaded).__name__ == NAME and loaded.config == sampler.config
    for preference in (None, 0, 1):
        assert torch.equal(loaded.logits(logits, preference=preference), sampler.logits(logits, preference=preference))
    loaded.at(1).save_pretrained(tmp_path / "fixed")
    assert json.loads((tmp_path / "fixed/config.json").read_text())["architecture"] == "SamplingNetwork"
    fixed = AdaptiveSampler.from_pretrained(tmp_path / "fixed")
    assert torch.equal(fixed.logits(logits), sampler.logits(logits, preference=1))
    assert load_sampler(folder, "cpu", 0.0) is load_sampler(folder, "cpu", 0.0) is not load_sampler(folder, "cpu", 1.0)


def test_pipelines_apply_it_at_their_preference(sampler, folder):
    logits = zipf_logits(3, 400)
    settings = [folder, {"path": folder, "preference": 0}, {"path": folder, "preference": 1}]
    chains = [configured_pipeline([{"learned": setting}]) for setting in settings]
    found = apply_to_logits(logits, chains)
    sketch = DistributionSketch.from_logits(logits, 400, 2)
    on_sketch = apply_on_support(sketch.t, sketch.n, chains).log_probs
    for row, preference in enumerate((0.5, 0, 1)):
        expected = sampler.logits(logits[row], preference=preference)
        torch.testing.assert_close(found[row].log_softmax(-1), expected.log_softmax(-1), rtol=0, atol=1e-4)
        points = sketch.t[[row]], sketch.n[[row]]
        there = sampler.at(preference)(*points) - (sampler.at(preference)(*points) + points[1].log()).logsumexp(-1)
        torch.testing.assert_close(on_sketch[row, :400], there[0, :400], rtol=0, atol=1e-4)
    hashes = sampler_hashes(chains)
    assert [*hashes] == [folder]


def test_recorded_draws_have_a_probability_at_every_preference(sampler, folder):
    draws = RecordedDraws.from_logits(zipf_logits(4, 300), torch.tensor([0, 5, 20, 100]), 32, 16, [0, 2, 4])
    chain = configured_pipeline([{"learned": {"path": folder, "preference": 0.8}}])
    with_preference, plain = (log_prob_of_answers(one, draws) for one in (sampler.at(0.8), sampler))
    torch.testing.assert_close(log_prob_of_answers(chain, draws), with_preference, rtol=0, atol=1e-4)
    assert not torch.allclose(with_preference, plain, atol=1e-3)


def generated(tiny_model, processor):
    return tiny_model.model.generate(
        torch.tensor([[1, 5, 9]]),
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=3,
        min_new_tokens=3,
        logits_processor=[processor],
        output_scores=True,
        output_logits=True,
        return_dict_in_generate=True,
    )


def test_a_sampler_is_evaluated_at_each_preference_if_it_takes_any():
    lesson = "a0_b1_c0_outcome"
    names = [row["name"] for row in evaluated(f"samplers/{NAME}/{lesson}", [0, 0.5])]
    assert names == [f"{NAME} a0_b1_c0 outcome preference {preference}" for preference in ("0", "0.5")]
    for architecture in ("SamplingNetwork", "Unknown"):
        folder = f"samplers/{architecture}/{lesson}"
        assert evaluated(folder, [0, 0.5]) == [learned_heuristic(folder)]


def test_generate_with_a_preference(tiny_model, sampler):
    for preference in (None, 0.9):
        output = generated(tiny_model, sampler.as_logits_processor(preference=preference))
        masked = output.scores[0] == -torch.inf
        expected = sampler.logits(output.logits[0].masked_fill(masked, -torch.inf), preference=preference)
        torch.testing.assert_close(output.scores[0], expected, rtol=0, atol=1e-6)


def test_the_engine_answers_at_every_preference(tiny_model, folder, tmp_path):
    """As the network at that preference does, saved on its own."""
    for preference in (0, 1):
        AdaptiveSampler.from_pretrained(folder).at(preference).save_pretrained(tmp_path / f"fixed{preference}")
    settings = [{"path": folder, "preference": 0}, {"path": folder, "preference": 1}]
    settings += [str(tmp_path / "fixed0"), str(tmp_path / "fixed1")]
    requests = [
        Request((1, 5, 9), configured_pipeline([{"learned": setting}]), sample_seed=seed, max_new_tokens=6, stop=())
        for setting in settings
        for seed in range(8)
    ]
    answers = {}
    for completion in TransformersEngine(tiny_model, batch_size=16).generate(requests):
        answers[completion.index] = completion.token_ids
    assert [answers[i] for i in range(16)] == [answers[i] for i in range(16, 32)]
