"""Every heuristic against Hugging Face's warpers; on sketches; drawing, sorting, names and parsing."""

import json
import math

import numpy as np
import pytest
import torch
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

from adaptive_samplers.hashing import content_id
from adaptive_samplers.heuristics import (
    HEURISTICS,
    Processor,
    apply_on_support,
    apply_to_logits,
    draw,
    expand_heuristics,
    learned_heuristic,
    parse_processors,
    pipeline_name,
    sort_logits,
    support_entropy,
)
from adaptive_samplers.samplers import build_sampler
from adaptive_samplers.sketch import DistributionSketch

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
    lambda name: PARAMETERS[name].map(lambda value: Processor(name, value))
)
pipelines = st.lists(processors, max_size=3).map(tuple)


def warped(step: Processor, logits: torch.Tensor) -> torch.Tensor:
    return WARPERS[step.name](step.value)(None, logits)


def off_the_cut(step: Processor, logits: torch.Tensor) -> torch.Tensor:
    """How far each token of a row `[V]` is from where it would change sides, in probability, by float64."""
    p = logits.double().softmax(-1)
    if step.name in ("temperature", "top_k"):
        return torch.full_like(p, math.inf)
    entropy = -torch.xlogy(p, p).sum()
    cuts = {
        "min_p": step.value * p.max(),
        "epsilon": step.value,
        "eta": min(step.value, math.sqrt(step.value) * math.exp(-entropy)),
    }
    if step.name in cuts:
        return (p - cuts[step.name]).abs()
    distance = -p if step.name == "top_p" else (-p.log() - entropy).abs()
    order = distance.argsort(stable=True)
    before = p[order].cumsum(-1) - p[order]
    off = (before - step.value).abs()[order.argsort()]
    if step.name == "typical":
        # Float32 cannot order distances that differ by less than this: such a token may change places with the last.
        last = distance[order][(before < step.value).sum() - 1]
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
        assert_as_hugging_face((Processor(name, value),), logits)

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
        assert_as_hugging_face((Processor(name, value),), logits)
        assert_as_hugging_face((Processor("temperature", 0.7), Processor(name, value)), logits)
        assert_as_hugging_face((Processor(name, value), Processor("top_k", 30), Processor("min_p", 0.05)), logits)


def test_every_heuristic_is_tested():
    assert set(HEURISTICS) == set(WARPERS)


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        (Processor("top_k", 2), [0, 1, 3]),  # 1 and 3 tie with the second
        (Processor("min_p", 0.5), [0, 1, 3]),
        (Processor("min_p", 1.0), [0]),
        (Processor("epsilon", 0.25), [0, 1, 3]),
        (Processor("epsilon", 0.9), [0]),  # never nothing
        (Processor("eta", 0.49), [0, 1, 3]),  # 0.7 * exp(-1.04) = 0.247
        (Processor("eta", 0.9), [0]),
        (Processor("top_p", 0.5), [0]),  # the sum that reaches p is enough
        (Processor("top_p", 0.51), [0, 1]),
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
    out = apply_to_logits(logits, [(Processor("typical", mass),)])
    assert out[0].isfinite().nonzero().flatten().tolist() == kept
    assert_as_hugging_face((Processor("typical", mass),), logits)


@pytest.mark.parametrize("p", [0.0, 1e-9])
def test_top_p_always_keeps_a_token_in_a_chain(p):
    # Typical sampling removes the most probable token here, so that the sorted support begins with minus infinity.
    logits = torch.cat([torch.tensor([2.0]), torch.zeros(60)])[None]
    removed_first = apply_to_logits(logits, [(Processor("typical", 0.3),)])
    assert removed_first[0, 0] == -torch.inf
    out = apply_to_logits(logits, [(Processor("typical", 0.3), Processor("top_p", p))])
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
    chain = (Processor("top_p", 0.5), Processor("temperature", 2.0))
    apply_to_logits(logits, [chain] * 2)
    apply_on_support(t, torch.ones_like(t), [chain, ()])
    assert torch.equal(logits, before[0]) and torch.equal(t, before[1])
    assert torch.equal(apply_to_logits(logits, [()] * 2), logits)


def test_half_precision_logits_give_float32():
    logits = zipf_logits(2, 50).bfloat16()
    chain = (Processor("temperature", 0.7), Processor("top_k", 5))
    out = apply_to_logits(logits, [chain] * 2)
    assert out.dtype == torch.float32 and torch.equal(out, apply_to_logits(logits.float(), [chain] * 2))


def kept_mass(raw: torch.Tensor, out: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    """The raw probability of what is kept."""
    p = n * raw.double().exp()
    return (p * out.isfinite()).sum(-1) / p.sum(-1)


@pytest.mark.parametrize("name", sorted(WARPERS))
def test_on_a_sketch_the_kept_mass_is_that_of_the_vocabulary(name):
    """Within 1e-3 on fine knots; on coarse ones within a point's mass, for a point is kept or removed as a whole."""
    logits = zipf_logits(24, 20_000, seed=7)
    log_probs = logits.log_softmax(-1)
    chains = [
        (*heat, Processor(name, value)) for value in GRID[name] for heat in ((), (Processor("temperature", 0.7),))
    ]
    kept_in_full = [apply_to_logits(logits, [chain] * 24) for chain in chains]
    for tail in (128, 2048):
        sketch = DistributionSketch.from_logits(logits, 64, tail)
        heaviest = (sketch.n * sketch.t.exp())[:, 32:].amax(-1)  # where cuts fall among many tokens
        for chain, full in zip(chains, kept_in_full, strict=True):
            out = apply_on_support(sketch.t, sketch.n, [chain] * 24)
            error = (kept_mass(log_probs, full, torch.ones(1)) - kept_mass(sketch.t, out, sketch.n)).abs()
            bound = 1e-3 if tail == 2048 else 1e-3 + heaviest
            assert (error <= bound).all(), (chain, tail, error)


def test_points_without_tokens_change_nothing():
    logits = zipf_logits(5, 40, seed=2)
    sketch = DistributionSketch.from_logits(logits, 64, 16)  # more points than tokens
    t, _ = sort_logits(logits)
    assert torch.allclose(support_entropy(sketch.t, sketch.n), support_entropy(t, torch.ones_like(t)), atol=1e-5)
    for name, values in GRID.items():
        for value in values:
            chains = [(Processor(name, value),)] * 5
            full = apply_on_support(t, torch.ones_like(t), chains)
            out = apply_on_support(sketch.t, sketch.n, chains)[:, :40]
            assert torch.equal(out.isfinite(), full.isfinite()), (name, value)


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
    out = apply_to_logits(logits, [(Processor("top_p", 0.8),), (Processor("typical", 0.4),)] * 32)
    for uniform in (0.0, 1e-300, 0.5, LAST_UNIFORM):
        positions = draw(out, torch.full((64,), uniform, dtype=torch.float64))
        assert out.gather(1, positions[:, None]).isfinite().all()


def saved_sampler(folder, architecture="LocalProbabilityTransform", roughness=1.0, **config):
    sampler = build_sampler(architecture, {**config, "top": 32, "tail": 32}, seed=1)
    with torch.no_grad():
        for parameter in sampler.parameters():
            if parameter.dim() == 2:
                parameter.mul_(roughness)
    path = folder / architecture / "a0.7_b0.3_c0_top2"
    sampler.save_pretrained(path)
    return sampler, Processor("learned", str(path))


NETWORK = {"architecture": "SamplingNetwork", "d_model": 8, "d_ff": 12, "n_blocks": 1, "n_heads": 2}


def test_a_learned_step_is_the_sampler(tmp_path):
    sampler, learned = saved_sampler(tmp_path, **NETWORK)
    logits = zipf_logits(3, 300, seed=5)
    cut, plain = (Processor("top_k", 20), learned), (Processor("temperature", 0.5),)
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
    chain = (Processor("top_k", 20), learned)
    out = apply_on_support(sketch.t, sketch.n, [chain] * 3)
    assert (out.isfinite().sum(-1) == 20).all()
    full = apply_to_logits(logits, [chain] * 3).sort(descending=True, dim=-1).values[:, :20]
    assert torch.allclose(out[:, :20].softmax(-1).sort(descending=True, dim=-1).values, full.softmax(-1), atol=1e-5)


def test_heuristics_behind_a_learned_step_that_changes_the_order(tmp_path):
    _, learned = saved_sampler(tmp_path, hidden_dims=24, roughness=12.0)
    logits = zipf_logits(4, 30, seed=3)  # as many tokens as exact points: the sampler's sketch is exact
    middle = apply_to_logits(logits, [(learned,)] * 4)
    assert (sort_logits(logits)[1] != sort_logits(middle)[1]).any(), "the sampler keeps the order: make it rougher"
    for name, values in GRID.items():
        for value in values:
            step = Processor(name, value)
            out = apply_to_logits(logits, [(learned, step)] * 4)
            assert torch.equal(out, apply_to_logits(middle, [(step,)] * 4)), step


def test_names_follow_the_order_of_steps(tmp_path):
    assert pipeline_name((Processor("temperature", 0.7), Processor("min_p", 0.05))) == "temperature_0.7+min_p_0.05"
    assert pipeline_name((Processor("top_k", 50), Processor("temperature", 1.0))) == "top_k_50+temperature_1"
    learned = Processor("learned", "results/demo/samplers/SamplingNetwork/a0.7_b0.3_c0_top2")
    assert pipeline_name((learned,)) == "learned_SamplingNetwork/a0.7_b0.3_c0_top2"
    assert pipeline_name((Processor("top_p", 0.9), Processor("learned", "mine"))) == "top_p_0.9+learned_mine"


def test_a_learned_row():
    row = learned_heuristic("results/demo/samplers/SamplingNetwork/a0.7_b0.3_c0_top2")
    assert row["name"] == "SamplingNetwork a0.7_b0.3_c0 top2" and row["family"] == "learned"
    (step,) = parse_processors(row["processors"])
    assert step == Processor("learned", "results/demo/samplers/SamplingNetwork/a0.7_b0.3_c0_top2")
    assert row["heuristic_id"] == content_id(json.loads(row["processors"]))


def test_the_grid_is_every_value_at_every_temperature():
    rows = expand_heuristics(
        [
            {"family": "temperature", "temperatures": [0.3, 1]},
            {"family": "top_k", "values": [10, 50], "temperatures": [0.7, 1.0]},
            {"family": "min_p", "values": [0.1]},
        ],
        [[{"top_k": 50}, {"top_p": 0.95}, {"temperature": 0.8}]],
    )
    assert [row["name"] for row in rows] == [
        "temperature_0.3",
        "temperature_1",  # changes nothing, but is all there is
        "temperature_0.7+top_k_10",
        "top_k_10",
        "temperature_0.7+top_k_50",
        "top_k_50",
        "min_p_0.1",
        "top_k_50+top_p_0.95+temperature_0.8",
    ]
    assert [row["family"] for row in rows] == [*["temperature"] * 2, *["top_k"] * 4, "min_p", "pipeline"]
    for row in rows:
        chain = parse_processors(row["processors"])
        assert pipeline_name(chain) == row["name"]
        assert row["heuristic_id"] == content_id([step.describe() for step in chain])
    assert len({row["heuristic_id"] for row in rows}) == len(rows)


def test_ids_follow_from_content_alone():
    one = expand_heuristics([{"family": "top_p", "values": [0.9], "temperatures": [1.0, 0.5]}], [])
    other = expand_heuristics([], [[{"temperature": 0.5}, {"top_p": 0.9}], [{"top_p": 0.9}]])
    assert [row["heuristic_id"] for row in one] == [row["heuristic_id"] for row in other[::-1]]


def test_the_interchange_form_comes_back():
    pipeline = (Processor("temperature", 0.7), Processor("top_k", 10), Processor("learned", "a/b"))
    described = [step.describe() for step in pipeline]
    assert described[1] == {"name": "top_k", "params": {"k": 10}}
    assert parse_processors(described) == parse_processors(json.dumps(described)) == pipeline
    assert parse_processors("[]") == ()


@pytest.mark.parametrize(
    ("processors", "message"),
    [
        ([{"name": "top_q", "params": {"p": 0.9}}], "unknown processor 'top_q'.*top_p"),
        ([{"name": "top_p", "params": {"top_p": 0.9}}], "'top_p' takes the parameter 'p'"),
        ([{"name": "top_p", "params": {"p": 0.9, "k": 3}}], "'top_p' takes the parameter 'p'"),
        ([{"name": "top_p", "params": {}}], "'top_p' takes the parameter 'p'"),
        ([{"name": "learned", "params": {"folder": "x"}}], "'learned' takes the parameter 'path'"),
        ([{"name": "top_p"}], "a processor has a name and params"),
        ([{"top_p": 0.9}], "a processor has a name and params"),
        ("[{", "Expecting"),
    ],
)
def test_what_is_no_pipeline_is_refused(processors, message):
    with pytest.raises(ValueError, match=message):
        parse_processors(processors)
