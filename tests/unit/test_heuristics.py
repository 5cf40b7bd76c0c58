"""Every heuristic on logits, against Hugging Face's warpers and formulas in float64."""

import math

import numpy as np
import pytest
import torch
from heuristic_references import GRID, PARAMETERS, REFERENCES, STATEFUL, WARPERS, rows_of_logits, step_of, warped
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sketch import zipf_logits

from adaptive_samplers.heuristics import HEURISTICS, Processor, apply_on_support, apply_to_logits, sort_logits

processors = st.sampled_from(sorted(WARPERS)).flatmap(
    lambda name: PARAMETERS[name].map(lambda value: step_of(name, value))
)
pipelines = st.lists(processors, max_size=3).map(tuple)


def off_the_cut(step: Processor, logits: torch.Tensor) -> torch.Tensor:
    """How far each token of a row `[V]` is from where it would change sides, in probability, by float64."""
    p, (value,) = logits.double().softmax(-1), step.values
    if step.name in ("temperature", "top_k"):
        return torch.full_like(p, math.inf)
    entropy = -torch.xlogy(p, p).sum()
    cuts = {
        "min_p": value * p.max(),
        "epsilon": value,
        "eta": min(value, math.sqrt(value) * math.exp(-entropy)),
    }
    if step.name in cuts:
        return (p - cuts[step.name]).abs()
    distance = -p if step.name == "top_p" else (-p.log() - entropy).abs()
    order = distance.argsort(stable=True)
    before = p[order].cumsum(-1) - p[order]
    off = (before - value).abs()[order.argsort()]
    if step.name == "typical":
        # Float32 cannot order distances that differ by less than this: such a token may change places with the last.
        last = distance[order][(before < value).sum() - 1]
        off = torch.where((distance - last).abs() < 1e-5, 0.0, off)
    return off


def apart_from_choice_among_ties(differ, ours, theirs, row) -> torch.Tensor:
    """Of tokens that tie at the cut the same number is to be kept; which ones is nobody's promise."""
    apart = torch.zeros_like(differ)
    for value in row[differ].unique():
        ties = row == value
        surplus = abs(int((ties & ours.isfinite()).sum()) - int((ties & theirs.isfinite()).sum()))
        apart[ties.nonzero().flatten()[:surplus]] = True
    return apart


def assert_as_hugging_face(pipeline, logits: torch.Tensor) -> None:
    """Step by step on the same input, and from end to end.

    Where rounding at an exact cut makes the two differ, it is in one token whose mass is within 1e-6 of the cut.
    Typical sampling treats ties alike, and may swap tokens that are equally far from the entropy in float32.
    """
    current, rounded = logits, False
    for step in pipeline:
        theirs, ours = warped(step, current), apply_to_logits(current, [(step,)] * len(current))
        for their_row, our_row, row in zip(theirs, ours, current, strict=True):
            differ = their_row.isfinite() != our_row.isfinite()
            if step.name == "top_p":
                differ = apart_from_choice_among_ties(differ, our_row, their_row, row)
            if differ.any():
                rounded = True
                off = off_the_cut(step, row)
                assert all(off[row == value].min() <= 1e-6 for value in row[differ].unique())
                assert step.name == "typical" or int(differ.sum()) == 1
            both = our_row.isfinite() & their_row.isfinite()
            torch.testing.assert_close(our_row[both], their_row[both], rtol=3e-7, atol=0)
        current = theirs
    if not rounded and not any(step.name == "top_p" for step in pipeline):
        ours = apply_to_logits(logits, [pipeline] * len(logits))
        assert torch.equal(ours.isfinite(), current.isfinite())
        torch.testing.assert_close(ours.softmax(-1), current.softmax(-1), rtol=3e-6, atol=1e-9)


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
        (step_of("min_p", 0.5), [0, 1, 3]),
        (step_of("min_p", 1.0), [0]),
        (step_of("epsilon", 0.25), [0, 1, 3]),
        (step_of("epsilon", 0.9), [0]),  # never nothing
        (step_of("eta", 0.49), [0, 1, 3]),  # 0.7 * exp(-1.04) = 0.247
        (step_of("eta", 0.9), [0]),
        (step_of("top_p", 0.5), [0]),  # the sum that reaches p is enough
        (step_of("top_p", 0.51), [0, 1]),
    ],
)
def test_ties_and_exact_cuts(step, kept):
    # Probabilities 1/2, 1/4, 0, 1/4 without rounding.
    logits = torch.log(torch.tensor([[2.0, 1.0, 0.0, 1.0]]))
    out = apply_to_logits(logits, [(step,)])
    assert out[0].isfinite().nonzero().flatten().tolist() == kept


@pytest.mark.parametrize(("mass", "kept"), [(0.25, [1]), (0.26, [0, 1]), (0.75, [0, 1]), (0.76, [0, 1, 2, 3])])
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
