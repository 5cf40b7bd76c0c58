"""Sorting and drawing tokens, and the heuristics that remember what was drawn."""

import math

import numpy as np
import pytest
import torch
from heuristic_references import rows_of_logits, step_of
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sketch import zipf_logits

from adaptive_samplers.heuristics import (
    apply_on_support,
    apply_to_logits,
    draw,
    initial_state,
    is_stateful,
    next_states,
    sort_logits,
)
from adaptive_samplers.heuristics.apply import apply_along_answers
from adaptive_samplers.sketch import DistributionSketch


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


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_logits_without_a_distribution_are_refused_by_their_row(bad):
    logits = torch.zeros(3, 5)
    logits[1, 2] = bad
    with pytest.raises(ValueError, match="row 1"):
        apply_to_logits(logits, [(step_of("top_p", 0.8),)] * 3)
