"""Every heuristic against Hugging Face's warpers; on sketches; drawing, sorting, names and parsing."""

import json
import math
import textwrap

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sketch import zipf_logits
from transformers import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from adaptive_samplers.config import document_families, load_config
from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_id
from adaptive_samplers.heuristics import (
    HEURISTICS,
    Numbers,
    Processor,
    Support,
    apply_on_support,
    apply_to_logits,
    draw,
    expand_heuristics,
    heuristic,
    initial_state,
    is_stateful,
    learned_heuristic,
    next_states,
    parse_processors,
    pipeline_name,
    sort_logits,
)
from adaptive_samplers.heuristics.apply import apply_along_answers
from adaptive_samplers.samplers import build_sampler
from adaptive_samplers.sketch import DistributionSketch
from support import REPOSITORY


def step_of(name: str, *values: float | str) -> Processor:
    return Processor(name, values)


WARPERS = {
    "temperature": TemperatureLogitsWarper,
    "top_k": TopKLogitsWarper,
    "top_p": TopPLogitsWarper,
    "min_p": MinPLogitsWarper,
    "typical": TypicalLogitsWarper,
    "epsilon": EpsilonLogitsWarper,
    "eta": EtaLogitsWarper,
}
PARAMETERS = {
    "temperature": st.floats(0.05, 5),
    "top_k": st.integers(1, 50),
    # A cut at 0.99 of at most 40 tokens passes no token smaller than 0.01 / 40, so that rounding moves one at most.
    "top_p": st.floats(0.01, 0.99),
    "min_p": st.floats(0.001, 1),
    "typical": st.floats(0.05, 0.99),
    "epsilon": st.floats(1e-4, 0.9),
    "eta": st.floats(1e-4, 0.9),
}
GRID = {
    "temperature": [0.3, 1.0, 1.7],
    "top_k": [1, 10, 50, 5000],
    "top_p": [0.1, 0.5, 0.9, 0.99],
    "min_p": [0.02, 0.1, 0.5, 1.0],
    "typical": [0.2, 0.5, 0.9, 0.95],
    "epsilon": [3e-4, 0.01, 0.2],
    "eta": [3e-4, 0.01, 0.2],
}


def entropy_of(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def cut(logits: np.ndarray, threshold: float, slack: float) -> np.ndarray:
    """Keep what reaches a logit, but never nothing; `slack` nats more are kept."""
    return np.where(logits >= min(threshold - slack, logits.max()), logits, -np.inf)


def reference_top_n_sigma(logits, slack, n):
    return cut(logits, logits.max() - n * np.std(logits[np.isfinite(logits)]), slack)


def reference_top_h(logits, slack, alpha):
    p = np.exp(logits - np.logaddexp.reduce(logits))
    order, kept = np.argsort(-logits, kind="stable"), 1
    while (
        kept < len(p) and entropy_of(p[order[: kept + 1]] / p[order[: kept + 1]].sum()) <= alpha * entropy_of(p) + slack
    ):
        kept += 1
    return np.where(np.isin(np.arange(len(p)), order[:kept]), logits, -np.inf)


def reference_p_less(logits, slack):
    total = np.logaddexp.reduce(logits)
    return cut(logits, np.log((np.exp(logits - total) ** 2).sum()) + total, slack)


def reference_p_less_norm(logits, slack):
    total, count = np.logaddexp.reduce(logits), np.isfinite(logits).sum()
    threshold = (count * (np.exp(logits - total) ** 2).sum() - 1) / max(count - 1, 1)
    # Among equal tokens rounding decides the sign of a threshold of 0.
    return cut(logits, np.log(threshold) + total if threshold > 1e-9 else -np.inf, slack)


def reference_quadratic(logits, slack, factor, curve):
    d, k, s = np.fmax(logits, -1e9) - logits.max(), (3 - curve) / 2, (curve - 1) / 2
    bent = -(k * factor * d**2) + s * factor * d**3 + logits.max()
    return np.where(np.isfinite(logits), bent, -np.inf)


def reference_dynamic_temperature(logits, slack, low, high, exponent):
    p = np.exp(logits - np.logaddexp.reduce(logits))
    if np.isfinite(logits).sum() == 1:
        return logits
    share = entropy_of(p) / np.log(np.isfinite(logits).sum())
    return logits / (low + (high - low) * share**exponent)


def reference_entropy_temperature(logits, slack, temperature, theta):
    entropy = entropy_of(np.exp(logits - np.logaddexp.reduce(logits)))
    return logits / max(temperature * 0.8 ** (theta / max(entropy, 1e-300)), 1e-6)


REFERENCES = {
    "top_n_sigma": (reference_top_n_sigma, st.tuples(st.floats(0.1, 4)), [(1.0,), (2.0,), (3.0,)]),
    "top_h": (reference_top_h, st.tuples(st.floats(0.05, 0.95)), [(0.4,), (0.7,), (0.9,)]),
    "p_less": (reference_p_less, st.just(()), [()]),
    "p_less_norm": (reference_p_less_norm, st.just(()), [()]),
    "quadratic": (reference_quadratic, st.tuples(st.floats(0.01, 3), st.floats(1, 3)), [(0.2, 1.0), (1.0, 2.0)]),
    "dynamic_temperature": (
        reference_dynamic_temperature,
        st.tuples(st.floats(0.1, 1), st.floats(1, 3), st.floats(0.3, 2)),
        [(0.5, 1.5, 1.0)],
    ),
    "entropy_temperature": (
        reference_entropy_temperature,
        st.tuples(st.floats(0.2, 2), st.floats(0.01, 2)),
        [(0.8, 0.1)],
    ),
}
STATEFUL = {"mirostat": (3.0, 0.1), "annealed_temperature": (1.2, 0.1, 30.0)}


@st.composite
def rows_of_logits(draw_from) -> torch.Tensor:
    """A row `[1, V]`: smooth, with ties, flat or peaked; some of it at minus infinity."""
    size = draw_from(st.integers(1, 40))
    elements = draw_from(
        st.sampled_from(
            [st.floats(-20, 20, width=32), st.sampled_from([-3.0, 0.0, 0.5, 1.0]), st.just(2.5), st.floats(0, 1e-3)]
        )
    )
    values = draw_from(st.lists(elements, min_size=size, max_size=size))
    masked = draw_from(st.lists(st.booleans(), min_size=size, max_size=size)) if draw_from(st.booleans()) else []
    peak = draw_from(st.integers(0, size - 1))
    row = [-math.inf if hidden else value for value, hidden in zip(values, masked or [False] * size, strict=True)]
    row[peak] = values[peak] + draw_from(st.sampled_from([0.0, 0.0, 60.0]))
    return torch.tensor([row], dtype=torch.float32)


processors = st.sampled_from(sorted(WARPERS)).flatmap(
    lambda name: PARAMETERS[name].map(lambda value: step_of(name, value))
)
pipelines = st.lists(processors, max_size=3).map(tuple)


def warped(step: Processor, logits: torch.Tensor) -> torch.Tensor:
    return WARPERS[step.name](*step.values)(None, logits)


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
BY_RANK = {"top_k", "top_p", "top_h"}
CUTS = [
    *[(name, (value,)) for name in WARPERS if name != "temperature" for value in GRID[name]],
    *[(name, values) for name in ("top_n_sigma", "top_h", "p_less", "p_less_norm") for values in REFERENCES[name][2]],
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


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.floats(width=32, allow_nan=False),
            st.sampled_from([0.0, -0.0, -math.inf, 1.0, -1.0, 1e-45, -1e-45]),
        ),
        min_size=1,
        max_size=50,
    )
)
def test_sorting_is_that_of_torch(values):
    logits = torch.tensor([values, values[::-1]], dtype=torch.float32)
    t, order = sort_logits(logits)
    expected = torch.sort(logits, dim=-1, descending=True, stable=True)
    assert torch.equal(order, expected.indices)
    assert torch.equal(t.view(torch.int32), expected.values.view(torch.int32))


def test_sorting_many_tokens_and_parts_of_tensors():
    logits = zipf_logits(4, 30_000, seed=1).bfloat16()[:, ::2]
    t, order = sort_logits(logits)
    expected = torch.sort(logits.float(), dim=-1, descending=True, stable=True)
    assert t.dtype == torch.float32 and torch.equal(t, expected.values) and torch.equal(order, expected.indices)


LAST_UNIFORM = 1 - 2**-53


@settings(max_examples=200, deadline=None)
@given(rows_of_logits(), st.one_of(st.floats(0, LAST_UNIFORM), st.sampled_from([0.0, 0.25, 0.5, LAST_UNIFORM])))
def test_drawing_is_the_inverse_of_the_cumulative_distribution(logits, uniform):
    t, _ = sort_logits(logits)
    t = t.flip(-1) if uniform < 0.5 else t  # removed tokens first, or last
    position = int(draw(t, torch.tensor([uniform], dtype=torch.float64))[0])
    weights = torch.exp(t[0] - t[0].max()).tolist()
    target, total = uniform * np.cumsum(np.array(weights))[-1], 0.0
    for expected, weight in enumerate(weights):  # noqa: B007 (used after the loop)
        total += weight
        if total > target:
            break
    assert position == expected and weights[position] > 0


def test_drawing_many_times_gives_the_distribution():
    t = torch.tensor([[3.0, 2.5, -math.inf, 1.0, 0.0, -math.inf, -2.0, -math.inf]])
    count = 200_000
    numbers = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    positions = draw(t.expand(count, -1), numbers)
    shares = torch.bincount(positions, minlength=8).double() / count
    assert torch.allclose(shares, t[0].double().softmax(-1), atol=2 / count)


def test_a_removed_token_is_never_drawn():
    logits = zipf_logits(64, 500, seed=9)
    out = apply_to_logits(logits, [(step_of("top_p", 0.8),), (step_of("typical", 0.4),)] * 32)
    for uniform in (0.0, 1e-300, 0.5, LAST_UNIFORM):
        positions = draw(out, torch.full((64,), uniform, dtype=torch.float64))
        assert out.gather(1, positions[:, None]).isfinite().all()


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


def test_names_follow_the_order_of_steps(tmp_path):
    assert pipeline_name((step_of("temperature", 0.7), step_of("min_p", 0.05))) == "temperature_0.7+min_p_0.05"
    assert pipeline_name((step_of("top_k", 50), step_of("temperature", 1.0))) == "top_k_50+temperature_1"
    learned = step_of("learned", "results/demo/samplers/SamplingNetwork/a0.7_b0.3_c0_top2")
    assert pipeline_name((learned,)) == "learned_SamplingNetwork/a0.7_b0.3_c0_top2"
    assert pipeline_name((step_of("top_p", 0.9), step_of("learned", "mine"))) == "top_p_0.9+learned_mine"
    assert (
        pipeline_name((step_of("p_less"), step_of("quadratic", 0.2, 1.0)))
        == "p_less+quadratic_smoothing_factor_0.2_curve_1"
    )


def test_a_learned_row():
    row = learned_heuristic("results/demo/samplers/SamplingNetwork/a0.7_b0.3_c0_top2")
    assert row["name"] == "SamplingNetwork a0.7_b0.3_c0 top2" and row["family"] == "learned"
    (step,) = parse_processors(row["processors"])
    assert step == step_of("learned", "results/demo/samplers/SamplingNetwork/a0.7_b0.3_c0_top2")
    assert row["heuristic_id"] == content_id(json.loads(row["processors"]))


def test_the_grid_is_every_value_at_every_temperature():
    rows = expand_heuristics(
        [
            {"family": "temperature", "temperatures": [0.3, 1]},
            {"family": "top_k", "values": [10, 50], "temperatures": [0.7, 1.0]},
            {"family": "min_p", "values": [0.1]},
            {"family": "p_less", "temperatures": [1.5]},
            {"family": "quadratic", "values": [{"curve": 1, "smoothing_factor": 0.2}]},
        ],
        [
            [{"top_k": 50}, {"top_p": 0.95}, {"temperature": 0.8}],
            [{"p_less": None}, {"mirostat": {"eta": 0.1, "tau": 3}}],
        ],
    )
    assert [row["name"] for row in rows] == [
        "temperature_0.3",
        "temperature_1",  # changes nothing, but is all there is
        "temperature_0.7+top_k_10",
        "top_k_10",
        "temperature_0.7+top_k_50",
        "top_k_50",
        "min_p_0.1",
        "temperature_1.5+p_less",
        "quadratic_smoothing_factor_0.2_curve_1",
        "top_k_50+top_p_0.95+temperature_0.8",
        "p_less+mirostat_tau_3_eta_0.1",
    ]
    families = [*["temperature"] * 2, *["top_k"] * 4, "min_p", "p_less", "quadratic", "pipeline", "pipeline"]
    assert [row["family"] for row in rows] == families
    for row in rows:
        chain = parse_processors(row["processors"])
        assert pipeline_name(chain) == row["name"]
        assert row["heuristic_id"] == content_id([step.describe() for step in chain])
    assert len({row["heuristic_id"] for row in rows}) == len(rows)


def test_ids_follow_from_content_alone():
    one = expand_heuristics([{"family": "top_p", "values": [0.9], "temperatures": [1.0, 0.5]}], [])
    other = expand_heuristics([], [[{"temperature": 0.5}, {"top_p": 0.9}], [{"top_p": 0.9}]])
    assert [row["heuristic_id"] for row in one] == [row["heuristic_id"] for row in other[::-1]]


def test_ids_are_those_of_earlier_versions():
    """A run that exists goes on with its answers: what names them must not change."""
    rows = expand_heuristics(
        [{"family": "top_k", "values": [10], "temperatures": [0.7]}],
        [[{"top_k": 50}, {"top_p": 0.95}, {"temperature": 1}]],
    )
    assert [row["heuristic_id"] for row in rows] == ["f40e27749beb76d2", "56c4974993d9c132"]


def test_the_interchange_form_comes_back():
    pipeline = (step_of("temperature", 0.7), step_of("top_k", 10), step_of("learned", "a/b"))
    described = [step.describe() for step in pipeline]
    assert described[1] == {"name": "top_k", "params": {"k": 10}}
    assert parse_processors(described) == parse_processors(json.dumps(described)) == pipeline
    several = [{"name": "p_less", "params": {}}, {"name": "quadratic", "params": {"curve": 2, "smoothing_factor": 1}}]
    assert parse_processors(several) == (step_of("p_less"), step_of("quadratic", 1, 2))
    assert parse_processors("[]") == ()


@pytest.mark.parametrize(
    ("processors", "message"),
    [
        ([{"name": "top_q", "params": {"p": 0.9}}], "unknown processor 'top_q'.*top_p"),
        ([{"name": "top_p", "params": {"top_p": 0.9}}], "'top_p' takes the parameters \\['p'\\]"),
        ([{"name": "top_p", "params": {"p": 0.9, "k": 3}}], "'top_p' takes the parameters \\['p'\\]"),
        ([{"name": "top_p", "params": {}}], "'top_p' takes the parameters \\['p'\\]"),
        ([{"name": "learned", "params": {"folder": "x"}}], "'learned' takes the parameters \\['path'\\]"),
        ([{"name": "p_less", "params": {"p": 1}}], "'p_less' takes no parameters"),
        ([{"name": "top_p"}], "a processor has a name and params"),
        ([{"top_p": 0.9}], "a processor has a name and params"),
        ("[{", "Expecting"),
    ],
)
def test_what_is_no_pipeline_is_refused(processors, message):
    with pytest.raises(ValueError, match=message):
        parse_processors(processors)


def followed_plainly(pipeline_values, name, logits, uniforms):
    """One answer in float64, a token at a time: the tokens drawn and how many tokens were kept at each step."""
    tokens, counts = [], []
    mu = 2 * pipeline_values[0]
    for step, (row, uniform) in enumerate(zip(logits.double().numpy(), uniforms, strict=True)):
        order = np.argsort(-row, kind="stable")
        row = row[order]
        if name == "annealed_temperature":
            highest, lowest, decay = pipeline_values
            row = row / max(1 + highest - math.exp(step / decay), lowest)
            kept = len(row)
        else:
            p = np.exp(row - np.logaddexp.reduce(row))
            kept = max(1, int((-np.log2(p) <= mu).sum()))
        p = np.exp(row[:kept] - np.logaddexp.reduce(row[:kept]))
        place = int(np.searchsorted(np.cumsum(p), uniform * p.sum(), side="right"))
        if name == "mirostat":
            mu -= pipeline_values[1] * (-math.log2(p[place]) - pipeline_values[0])
        tokens.append(int(order[place]))
        counts.append(kept)
    return tokens, counts


def followed(pipelines, logits, uniforms):
    """Answers in step, as an engine draws them: tokens and counts, one list an answer."""
    states = [initial_state(pipeline) for pipeline in pipelines]
    tokens, counts = [], []
    for step in range(logits.shape[1]):
        t, order = sort_logits(logits[:, step].log_softmax(-1))
        support = apply_on_support(t, None, pipelines, states)
        places = draw(support.t, torch.as_tensor(uniforms[:, step]))[:, None]
        states = next_states(pipelines, states, support.log_probs.gather(1, places).squeeze(1))
        tokens.append(order.gather(1, places).squeeze(1).tolist())
        counts.append(support.n.sum(-1).int().tolist())
    return list(map(list, zip(*tokens, strict=True))), list(map(list, zip(*counts, strict=True)))


ANSWERS = [
    (step_of("mirostat", 3.0, 0.1),),
    (step_of("annealed_temperature", 1.2, 0.1, 30.0),),
    (step_of("mirostat", 1.0, 0.7),),
    (step_of("top_p", 0.9),),
    (step_of("annealed_temperature", 2.0, 0.5, 3.0),),
    (step_of("temperature", 1.5), step_of("mirostat", 4.0, 0.3), step_of("annealed_temperature", 1.5, 0.5, 5.0)),
]


@pytest.fixture(scope="module")
def answers() -> tuple[torch.Tensor, np.ndarray]:
    logits = zipf_logits(len(ANSWERS) * 25, 400, seed=11).reshape(len(ANSWERS), 25, 400)
    return logits, np.random.default_rng(5).random((len(ANSWERS), 25))


def test_stateful_heuristics_are_a_plain_loop(answers):
    logits, uniforms = answers
    tokens, counts = followed(ANSWERS, logits, uniforms)
    for i in (0, 1, 2, 4):
        ((name, values),) = ((step.name, step.values) for step in ANSWERS[i])
        assert (tokens[i], counts[i]) == followed_plainly(values, name, logits[i], uniforms[i])
    assert len(set(counts[0])) > 5, "mirostat's bound does not move"


def test_the_state_of_an_answer_is_its_own(answers):
    """Alone, in another order or beside answers without state: the same."""
    logits, uniforms = answers
    together = followed(ANSWERS, logits, uniforms)
    for order in ([5, 3, 0, 2, 1, 4], [2], [5], [4, 3]):
        apart = followed([ANSWERS[i] for i in order], logits[order], uniforms[order])
        assert apart == tuple([part[i] for i in order] for part in together)
    assert [is_stateful(pipeline) for pipeline in ANSWERS] == [True, True, True, False, True, True]
    assert initial_state(ANSWERS[5]) == ((), (8.0,), (0.0,))


@pytest.mark.parametrize("on_sketches", [False, True])
def test_recorded_answers_are_followed_as_they_were_drawn(on_sketches, answers):
    logits, uniforms = answers
    tokens, counts = followed(ANSWERS, logits, uniforms)
    lengths = [25, 3, 0, 25, 7, 12]
    starts = [0, *np.cumsum(lengths).tolist()]
    steps = torch.cat([logits[i, :length] for i, length in enumerate(lengths)])
    chosen = torch.cat([torch.tensor(tokens[i][:length], dtype=torch.long) for i, length in enumerate(lengths)])
    log_probs = steps.log_softmax(-1).gather(1, chosen[:, None]).squeeze(1)
    if on_sketches:
        sketch = DistributionSketch.from_logits(steps, 300, 64)
        out = apply_along_answers(sketch.t, sketch.n, starts, ANSWERS, log_probs)
    else:
        out = apply_along_answers(sort_logits(steps)[0], None, starts, ANSWERS, log_probs)
    expected = torch.tensor([count for i, length in enumerate(lengths) for count in counts[i][:length]]).double()
    error = (out.n.sum(-1).double() - expected).abs()
    assert error.max() <= (0.05 * expected.max() if on_sketches else 0)


def test_a_heuristic_is_added_by_one_function():
    """As docs/add_a_heuristic.md says: on logits, on a sketch, and in a config."""
    document = (REPOSITORY / "docs" / "add_a_heuristic.md").read_text()
    code = textwrap.dedent(document.split("```python\n")[1].split("```")[0])
    try:
        exec(code, {"heuristic": heuristic, "Numbers": Numbers, "Support": Support, "Tensor": torch.Tensor})
        chain = (step_of("top_a", 0.5),)
        logits = torch.log(torch.tensor([[0.5, 0.25, 0.125, 0.12, 0.005]]))
        assert apply_to_logits(logits, [chain])[0].isfinite().tolist() == [True, True, True, False, False]
        many = zipf_logits(6, 20_000, seed=3) / 3
        sketch = DistributionSketch.from_logits(many, 64, 512)
        full, part = apply_to_logits(many, [chain] * 6), apply_on_support(sketch.t, sketch.n, [chain] * 6)
        ours = (part.n * sketch.t.exp()).sum(-1)
        torch.testing.assert_close(ours, (many.softmax(-1) * full.isfinite()).sum(-1), rtol=0, atol=1e-3)

        raw = yaml.safe_load((REPOSITORY / "config" / "config.yaml").read_text())
        raw["heuristics"]["grid"] = [{"family": "top_a", "values": [0.2], "temperatures": [0.7, 1.0]}]
        raw["scoring"]["top_k"] = [1]
        names = [row["name"] for row in expand_heuristics(load_config(raw, REPOSITORY)["heuristics"]["grid"], [])]
        assert names == ["temperature_0.7+top_a_0.2", "top_a_0.2"]
        raw["heuristics"]["grid"][0]["values"] = [1.5]
        with pytest.raises(
            UserError, match=r"1\.5 is out of range for top_a's a; allowed: a number of at least 0 and at most 1"
        ):
            load_config(raw, REPOSITORY)
        assert "| `top_a` | `a`: a number of at least 0 and at most 1 | Keep tokens" in document_families()
    finally:
        HEURISTICS.pop("top_a", None)


def test_what_is_declared_must_be_what_the_function_takes():
    for declared in ({"k": Numbers()}, {}, {"p": Numbers(), "start": {"mu": lambda p: 0.0}}):
        with pytest.raises(TypeError, match=r"heuristic 'broken' takes the parameters \['p'\] and the state \[\]"):

            @heuristic(**declared)
            def broken(support, p):
                return support

    assert "broken" not in HEURISTICS
