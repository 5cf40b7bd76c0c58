"""Heuristics and learned steps on sketches, against the same on the whole vocabulary."""

import math

import pytest
import torch
from heuristic_references import GRID, REFERENCES, step_of
from test_sketch import zipf_logits
from warpers import WARPERS, warped

from adaptive_samplers.heuristics import Support, apply_on_support, apply_to_logits, sort_logits
from adaptive_samplers.samplers import build_sampler
from adaptive_samplers.sketch import DistributionSketch


@pytest.fixture(scope="module", params=[49_152, 128_256])
def distributions(request) -> tuple[torch.Tensor, torch.Tensor, DistributionSketch]:
    """Log-probabilities, peaked to flat: as they are, sorted, and as sketches."""
    rows = 24 if request.param < 100_000 else 12
    temperatures = torch.linspace(0.3, 3, rows)[:, None]
    logits = 2 * zipf_logits(rows, request.param, seed=7) / temperatures
    log_probs = logits.log_softmax(-1)
    return log_probs, sort_logits(log_probs)[0], DistributionSketch.from_logits(logits, EXACT, 512)


EXACT = 256
# What is cut by rank or by mass is exact but for the rounding of the sketch. A threshold cuts somewhere inside a group,
# and where the tokens of the group lie is not known: the number above it is off by half the square root of the count.
BY_RANK = {"top_k", "top_p", "top_h", "top_h_renormalized"}
UNSHARED = ("top_n_sigma", "top_h_renormalized", "p_less", "p_less_norm")
CUTS = [
    *[(name, (value,)) for name in WARPERS if name != "temperature" for value in GRID[name]],
    *[(name, values) for name in UNSHARED for values in REFERENCES[name][2]],
    ("epsilon", (3e-5,)),
    ("min_p", (0.002,)),
]


def kept_masses(pipeline, distributions) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Support]:
    """The raw probability of what is kept of the vocabulary and of the sketch, how many tokens, and the sketch's."""
    log_probs, t, sketch = distributions
    current = log_probs
    if all(step.name in WARPERS for step in pipeline):
        for step in pipeline:
            current = warped(step, current)
        kept = current.isfinite()
        full = (log_probs.double().exp() * kept).sum(-1) / log_probs.double().exp().sum(-1)
        count = kept.sum(-1)
    else:
        support = apply_on_support(t, None, [pipeline] * len(t))
        full = (t.double().exp() * support.n).sum(-1) / t.double().exp().sum(-1)
        count = support.n.sum(-1)
    support = apply_on_support(sketch.t, sketch.n, [pipeline] * len(t))
    p = sketch.t.double().exp()
    return full, (support.n * p).sum(-1) / (sketch.n * p).sum(-1), count, support


@pytest.mark.parametrize(("name", "values"), CUTS)
def test_on_a_sketch_the_kept_mass_is_that_of_the_vocabulary(name, values, distributions):
    full, sketched, count, support = kept_masses((step_of(name, *values),), distributions)
    sketch, error = distributions[2], (full - sketched).abs()
    assert torch.equal(support.n, support.n.round()) and (support.n <= sketch.n).all()
    inside = sketch.n > 1
    scatter = ((sketch.n.sqrt() * sketch.t.exp()) * inside).amax(-1) / 2
    if name in BY_RANK:
        assert error.max() < 1e-4
    elif name == "typical":
        # The heaviest tokens are the last to be added: whether one more is needed hangs on a rounding error.
        assert error.median() < 1e-5 and error.quantile(0.85) < 1e-4
    else:
        assert (error < 1e-4 + 3 * scatter).all() and error.median() < 2e-5 and error.quantile(0.75) < 1e-4
    # Where the cut falls among tokens that have their own points, the very same tokens are kept.
    exact = (support.n[:, EXACT:].sum(-1) == 0) & (count < EXACT)
    assert torch.equal(support.n.sum(-1)[exact], count[exact].to(support.n.dtype))


CHAINS = [
    [("temperature", 0.7), ("top_p", 0.9), ("top_k", 3000)],
    [("top_k", 2000), ("temperature", 1.5), ("top_p", 0.95)],
    [("top_p", 0.99), ("top_h", 0.8)],
    [("quadratic", 0.5, 2.0), ("top_p", 0.9)],
    [("typical", 0.9), ("top_k", 700), ("top_p", 0.9)],
    [("dynamic_temperature", 0.5, 1.5, 1.0), ("top_p", 0.95), ("top_k", 900)],
]


@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_chains_on_a_sketch(chain, distributions):
    full, sketched, *_ = kept_masses(tuple(step_of(*step) for step in chain), distributions)
    error = (full - sketched).abs()
    assert error.max() < (2e-3 if chain[0][0] == "typical" else 1e-4) and error.median() < 1e-5


def test_cuts_by_rank_and_mass_keep_whole_tokens_exactly(distributions):
    _, _, sketch = distributions
    rows = len(sketch.t)
    for k in (7, EXACT, EXACT + 1, 1000, 4321):
        assert (apply_on_support(sketch.t, sketch.n, [(step_of("top_k", k),)] * rows).n.sum(-1) == k).all()
    p = sketch.t.double().exp() / (sketch.n * sketch.t.double().exp()).sum(-1, keepdim=True)
    for mass in (0.3, 0.9, 0.99):
        kept = apply_on_support(sketch.t, sketch.n, [(step_of("top_p", mass),)] * rows).n
        last = torch.where(kept > 0, p, math.inf).amin(-1)
        held = (kept * p).sum(-1)
        assert (held > mass - 1e-6).all() and (held - last < mass + 1e-6).all()


@pytest.mark.parametrize(("first", "second"), [(("min_p", 0.003), ("min_p", 0.003)), (("top_k", 900), ("top_k", 901))])
def test_a_group_that_is_cut_twice_keeps_what_the_harder_cut_leaves(first, second, distributions):
    _, _, sketch = distributions
    once, twice, other = (
        apply_on_support(sketch.t, sketch.n, [tuple(step_of(*step) for step in chain)] * len(sketch.t))
        for chain in ([first], [first, second], [second, first])
    )
    assert torch.equal(once.n, twice.n) and torch.equal(once.n, other.n)
    assert (once.n < sketch.n).logical_and(once.n > 0).any(), "no group was cut: choose another setting"


def test_points_without_tokens_change_nothing():
    logits = zipf_logits(5, 40, seed=2)
    sketch = DistributionSketch.from_logits(logits, 64, 16)  # more points than tokens
    t, _ = sort_logits(logits)
    full, padded = Support.of(t), Support.of(sketch.t, sketch.n)
    for statistic in ("entropy", "collision", "deviation", "count"):
        torch.testing.assert_close(getattr(padded, statistic), getattr(full, statistic), rtol=1e-5, atol=1e-5)
    for name, values in CUTS:
        chains = [(step_of(name, *values),)] * 5
        kept = apply_on_support(t, None, chains).n
        assert torch.equal(apply_on_support(sketch.t, sketch.n, chains).n[:, :40], kept), (name, values)
        assert torch.equal(apply_on_support(t, torch.ones_like(t), chains).n, kept), (name, values)


def saved_sampler(folder, architecture="LocalProbabilityTransform", roughness=1.0, **config):
    sampler = build_sampler(architecture, config, seed=1)
    with torch.no_grad():
        for parameter in sampler.parameters():
            if parameter.dim() == 2:
                parameter.mul_(roughness)
    path = folder / architecture / "a0.7_b0.3_c0_top2"
    sampler.save_pretrained(path)
    return sampler, step_of("learned", str(path))


NETWORK = {"architecture": "SamplingNetwork", "d_model": 8, "d_ff": 12, "n_blocks": 1, "n_heads": 2}


def test_a_learned_step_is_the_sampler(tmp_path):
    sampler, learned = saved_sampler(tmp_path, **NETWORK)
    logits = zipf_logits(3, 300, seed=5)
    cut, plain = (step_of("top_k", 20), learned), (step_of("temperature", 0.5),)
    out = apply_to_logits(logits, [(learned,), cut, plain])
    assert torch.allclose(out[0].softmax(-1), sampler.logits(logits[0]).softmax(-1), atol=1e-6)
    expected = sampler.logits(apply_to_logits(logits, [cut[:1]] * 3)[1])
    assert torch.equal(out[1].isfinite(), expected.isfinite()) and int(out[1].isfinite().sum()) == 20
    assert torch.allclose(out[1].softmax(-1), expected.softmax(-1), atol=1e-6)
    assert torch.equal(out[2], logits[2] / 0.5)


def test_a_learned_step_on_a_sketch_reads_nothing_of_what_was_removed(tmp_path):
    _, learned = saved_sampler(tmp_path, **NETWORK)
    logits = zipf_logits(3, 300, seed=5)
    sketch = DistributionSketch.from_logits(logits, 64, 64)
    chain = (step_of("top_k", 20), learned)
    out = apply_on_support(sketch.t, sketch.n, [chain] * 3)
    assert (out.n.sum(-1) == 20).all() and torch.equal(out.t.isfinite(), out.n > 0)
    full = apply_to_logits(logits, [chain] * 3).sort(descending=True, dim=-1).values[:, :20]
    assert torch.allclose(out.t[:, :20].softmax(-1).sort(descending=True, dim=-1).values, full.softmax(-1), atol=1e-5)


def test_a_learned_step_behind_a_cut_inside_a_group_reads_the_tokens_that_are_left(tmp_path):
    sampler, learned = saved_sampler(tmp_path, **NETWORK)
    sketch = DistributionSketch.from_logits(zipf_logits(4, 5000, seed=5), 32, 64)
    cut_first = apply_on_support(sketch.t, sketch.n, [(step_of("top_k", 300),)] * 4)
    assert ((cut_first.n > 0) & (cut_first.n < sketch.n)).sum() == 4
    out = apply_on_support(sketch.t, sketch.n, [(step_of("top_k", 300), learned, step_of("top_k", 200))] * 4)
    left = cut_first.n > 0
    filled = cut_first.log_probs.where(left, cut_first.log_probs.masked_fill(~left, math.inf).amin(-1, keepdim=True))
    with torch.no_grad():
        expected = sampler(filled, cut_first.n).masked_fill(~left, -math.inf)
    assert (out.n.sum(-1) == 200).all()
    torch.testing.assert_close(out.t[out.n > 0], expected[out.n > 0])


def test_heuristics_behind_a_learned_step_that_changes_the_order(tmp_path):
    _, learned = saved_sampler(tmp_path, hidden_dims=24, roughness=12.0)
    logits = zipf_logits(4, 30, seed=3)  # as many tokens as exact points: the sampler's sketch is exact
    middle = apply_to_logits(logits, [(learned,)] * 4)
    assert (sort_logits(logits)[1] != sort_logits(middle)[1]).any(), "the sampler keeps the order: make it rougher"
    for name, values in GRID.items():
        for value in values:
            step = step_of(name, value)
            out = apply_to_logits(logits, [(learned, step)] * 4)
            assert torch.equal(out, apply_to_logits(middle, [(step,)] * 4)), step
