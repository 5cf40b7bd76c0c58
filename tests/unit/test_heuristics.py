"""Every heuristic on logits, against Hugging Face's warpers and formulas in float64."""

import numpy as np
import pytest
import torch
from heuristic_references import GRID, PARAMETERS, REFERENCES, STATEFUL, rows_of_logits, step_of
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sketch import zipf_logits
from warpers import CHOOSING, WARPERS, differences, warped

from adaptive_samplers.heuristics import HEURISTICS, apply_on_support, apply_to_logits, sort_logits

processors = st.sampled_from(sorted(WARPERS)).flatmap(
    lambda name: PARAMETERS[name].map(lambda value: step_of(name, value))
)
pipelines = st.lists(processors, max_size=3).map(tuple)


def assert_as_hugging_face(pipeline, logits: torch.Tensor) -> None:
    """Step by step on the same input, and from end to end.

    Tokens at which the two differ are within 1e-12 of the cut, or tie with others of which as many are kept.
    """
    current, rounded = logits, False
    for step in pipeline:
        differing = differences(step, current)
        assert (differing <= 1e-12).all(), (step, differing)
        rounded |= len(differing) > 0
        theirs, ours = warped(step, current.double()), apply_to_logits(current, [(step,)] * len(current))
        both = ours.isfinite() & theirs.isfinite()
        torch.testing.assert_close(ours[both].double(), theirs[both], rtol=1e-7, atol=0)
        current = theirs.float()
    if not rounded and not any(step.name in CHOOSING for step in pipeline):
        theirs = logits.double()
        for step in pipeline:
            theirs = warped(step, theirs)
        ours = apply_to_logits(logits, [pipeline] * len(logits))
        assert torch.equal(ours.isfinite(), theirs.isfinite())
        # Ours come in float32, and half a unit in a logit's last place is so much of a probability.
        rounding = float(ours[ours.isfinite()].abs().max()) * torch.finfo(torch.float32).eps
        torch.testing.assert_close(ours.double().softmax(-1), theirs.softmax(-1), rtol=max(3e-6, rounding), atol=1e-9)


@pytest.mark.parametrize("name", sorted(WARPERS))
def test_a_heuristic_is_the_warper(name):
    @settings(max_examples=150, deadline=None)
    @given(rows_of_logits(), PARAMETERS[name])
    def check(logits, value):
        assert_as_hugging_face((step_of(name, value),), logits)

    check()


@settings(max_examples=200, deadline=None)
@given(rows_of_logits(), pipelines)
def test_chains_are_the_chained_warpers(logits, pipeline):
    assert_as_hugging_face(pipeline, logits)


@pytest.mark.parametrize("name", sorted(WARPERS))
def test_a_heuristic_is_the_warper_on_large_vocabularies(name):
    logits = zipf_logits(6, 4000, seed=4)
    logits[0, ::3] = -torch.inf
    for value in GRID[name]:
        assert_as_hugging_face((step_of(name, value),), logits)
        assert_as_hugging_face((step_of("temperature", 0.7), step_of(name, value)), logits)
        assert_as_hugging_face((step_of(name, value), step_of("top_k", 30), step_of("min_p", 0.05)), logits)


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_a_heuristic_is_its_reference(name):
    """What is kept may differ for tokens within 1e-5 nats of the cut."""
    reference, parameters, _ = REFERENCES[name]

    @settings(max_examples=150, deadline=None)
    @given(rows_of_logits(), parameters)
    def check(logits, values):
        out = apply_to_logits(logits, [(step_of(name, *values),)])[0].double().numpy()
        row = logits[0].double().numpy()
        less, more = (np.isfinite(reference(row, slack, *values)) for slack in (-1e-5, 1e-5))
        kept = np.isfinite(out)
        assert kept.any() and (less <= kept).all() and (kept <= more).all()
        expected = np.where(kept, reference(row, 100.0, *values), -np.inf)
        p, q = (np.exp(x - x.max()) / np.exp(x - x.max()).sum() for x in (out, expected))
        np.testing.assert_allclose(p, q, rtol=1e-3, atol=1e-6)

    check()


def test_every_heuristic_is_tested():
    assert set(HEURISTICS) == {*WARPERS, *REFERENCES, *STATEFUL}


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        (step_of("top_k", 2), [0, 1, 3]),  # 1 and 3 tie with the second
        (step_of("min_p", 0.4999), [0, 1, 3]),
        (step_of("min_p", 1.0), [0]),
        (step_of("epsilon", 0.2499), [0, 1, 3]),
        (step_of("epsilon", 0.9), [0]),  # never nothing
        (step_of("eta", 0.49), [0, 1, 3]),  # 0.7 * exp(-1.04) = 0.247
        (step_of("eta", 0.9), [0]),
        (step_of("top_p", 0.4999), [0]),
        (step_of("top_p", 0.5001), [0, 1]),
    ],
)
def test_ties(step, kept):
    # Probabilities 1/2, 1/4, 0, 1/4, as far as float32 tells.
    logits = torch.log(torch.tensor([[2.0, 1.0, 0.0, 1.0]]))
    out = apply_to_logits(logits, [(step,)])
    assert out[0].isfinite().nonzero().flatten().tolist() == kept


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        (step_of("min_p", 1.0), 4),
        (step_of("epsilon", 0.25), 4),
        (step_of("epsilon", 0.2500001), 4),  # never nothing
        (step_of("top_p", 0.25), 1),
        (step_of("top_p", 0.5), 2),  # the sum that reaches p is enough
        (step_of("top_p", 0.5 + 2**-52), 3),
        (step_of("top_p", 1.0), 4),
        (step_of("typical", 0.5), 4),
        (step_of("top_h", 0.5), 2),
    ],
)
def test_exact_cuts(step, kept):
    # Probabilities 1/4 without rounding.
    logits = torch.full((1, 4), 3.0)
    assert apply_to_logits(logits, [(step,)]).isfinite().sum() == kept
    assert warped(step, logits.double()).isfinite().sum() == kept


def test_top_p_of_one_keeps_every_token_that_has_a_probability():
    logits = torch.cat([torch.tensor([30.0, 29.0]), -torch.linspace(0, 40, 49_150)])[None]
    logits[0, 7] = -torch.inf
    assert apply_to_logits(logits, [(step_of("top_p", 1.0),)])[0].isfinite().sum() == 49_151
    # What Hugging Face keeps of it: all but the tokens whose sum from below is within the rest.
    for p in (1 - 1e-11, 1 - 1e-13, 1 - 2**-53):
        kept = apply_to_logits(logits, [(step_of("top_p", p),)]).isfinite()
        assert torch.equal(kept, warped(step_of("top_p", p), logits.double()).isfinite())
        assert 2 < kept.sum() < 49_151


def test_the_two_forms_of_top_h():
    """Probabilities .5, .25, .15, .1: -p log p sums to .347, .693, .978, 1.208, of all of which alpha is a part."""
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.15, 0.1]]))

    def kept(name, alpha):
        return int(apply_to_logits(logits, [(step_of(name, alpha),)]).isfinite().sum())

    assert [kept("top_h", alpha) for alpha in (0.1, 0.28, 0.3, 0.57, 0.58, 0.8, 0.82, 1.0)] == [1, 1, 1, 1, 2, 2, 3, 4]
    # The entropies of the renormalized distributions are 0, .637, .981 and 1.208.
    assert [kept("top_h_renormalized", alpha) for alpha in (0.5, 0.53, 0.81, 0.83)] == [1, 2, 2, 3]
    many = torch.zeros(1, 150)
    assert int(apply_to_logits(many, [(step_of("top_h", 1.0),)]).isfinite().sum()) in (99, 100)


@pytest.mark.parametrize(("mass", "kept"), [(0.249, [1]), (0.251, [0, 1]), (0.749, [0, 1]), (0.751, [0, 1, 2, 3])])
def test_typical_sampling_stops_where_the_mass_is_reached(mass, kept):
    # Probabilities 1/2, 1/4, 1/8, 1/8 and entropy 1.75 bits: the information of the second is nearest to it.
    logits = torch.log(torch.tensor([[4.0, 2.0, 1.0, 1.0]]))
    out = apply_to_logits(logits, [(step_of("typical", mass),)])
    assert out[0].isfinite().nonzero().flatten().tolist() == kept
    assert_as_hugging_face((step_of("typical", mass),), logits)


@pytest.mark.parametrize("p", [0.0, 1e-9])
def test_top_p_always_keeps_a_token_in_a_chain(p):
    # Typical sampling removes the most probable token here, so that the sorted support begins with minus infinity.
    logits = torch.cat([torch.tensor([2.0]), torch.zeros(60)])[None]
    removed_first = apply_to_logits(logits, [(step_of("typical", 0.3),)])
    assert removed_first[0, 0] == -torch.inf
    out = apply_to_logits(logits, [(step_of("typical", 0.3), step_of("top_p", p))])
    assert out.isfinite().sum() == 1 and out[0, 1:].isfinite().any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.lists(pipelines, min_size=2, max_size=12))
def test_rows_with_different_pipelines_do_not_touch_each_other(seed, chains):
    logits = zipf_logits(len(chains), 90, seed)
    together = apply_to_logits(logits, chains)
    alone = [apply_to_logits(row[None], [chain])[0] for row, chain in zip(logits, chains, strict=True)]
    assert torch.equal(together, torch.stack(alone))


def test_the_input_is_left_as_it_is():
    logits = zipf_logits(2, 50)
    t, _ = sort_logits(logits)
    before = logits.clone(), t.clone()
    chain = (step_of("top_p", 0.5), step_of("temperature", 2.0))
    apply_to_logits(logits, [chain] * 2)
    n = torch.ones_like(t)
    for counts in (None, n):
        apply_on_support(t, counts, [chain, ()])
    assert (n == 1).all()
    assert torch.equal(logits, before[0]) and torch.equal(t, before[1])
    assert torch.equal(apply_to_logits(logits, [()] * 2), logits)


def test_half_precision_logits_give_float32():
    logits = zipf_logits(2, 50).bfloat16()
    chain = (step_of("temperature", 0.7), step_of("top_k", 5))
    out = apply_to_logits(logits, [chain] * 2)
    assert out.dtype == torch.float32 and torch.equal(out, apply_to_logits(logits.float(), [chain] * 2))
