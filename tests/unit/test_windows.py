"""Heuristics and draws on windows of the most probable tokens, against the same on all tokens."""

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from heuristic_references import GRID, PARAMETERS, REFERENCES, STATEFUL, rows_of_logits, step_of
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sketch import zipf_logits

from adaptive_samplers.engines.drawing import Draws, draw_tokens
from adaptive_samplers.heuristics import (
    HEURISTICS,
    Numbers,
    Support,
    apply_on_support,
    apply_to_logits,
    draw,
    heuristic,
    initial_state,
    is_stateful,
    next_states,
    sort_logits,
    window_passes,
    windows,
)
from adaptive_samplers.heuristics import window_passes_portable as portable
from adaptive_samplers.heuristics.apply import apply_on_windows
from adaptive_samplers.heuristics.windows import Windows
from adaptive_samplers.off_policy.draws import ranks_and_log_probs

PASSES = [window_passes, portable]

SETTINGS = {
    **{name: PARAMETERS[name].map(lambda value: (value,)) for name in PARAMETERS},
    **{name: parameters for name, (_, parameters, _) in REFERENCES.items()},
    **{name: st.just(values) for name, values in STATEFUL.items()},
}
steps = st.sampled_from(sorted(HEURISTICS)).flatmap(
    lambda name: SETTINGS[name].map(lambda values: step_of(name, *values))
)
chains = st.lists(steps, max_size=3).map(tuple)
FIXED = [
    *[(step_of(name, value),) for name in GRID for value in GRID[name]],
    *[(step_of(name, *values),) for name in REFERENCES for values in REFERENCES[name][2]],
    *[(step_of(name, *values),) for name, values in STATEFUL.items()],
    # As many as a window holds, and one more.
    *[(step_of("top_k", k),) for k in (2, 3, 5, 6, 8, 9, 64, 65, 256, 257)],
    # Logits that are equal after the first step only.
    *[(step_of("quadratic", 1e-9, 1.0), step_of("top_k", k)) for k in (2, 3, 5, 8, 64)],
    (),
    (step_of("min_p", 0.0),),
    (step_of("epsilon", 1e-12),),
    (step_of("temperature", 1.3), step_of("top_p", 0.95)),
    (step_of("temperature", 0.6), step_of("top_k", 20), step_of("top_p", 0.95)),
    (step_of("top_p", 1.0), step_of("temperature", 1.2), step_of("min_p", 0.1)),
    (step_of("typical", 0.9), step_of("temperature", 1.5), step_of("top_p", 0.9)),
    (step_of("quadratic", 0.2, 1.0), step_of("top_n_sigma", 1.0)),
    (step_of("quadratic", 0.3, 3.0), step_of("temperature", 0.8), step_of("typical", 0.5)),
    (step_of("temperature", 0.9), step_of("dynamic_temperature", 0.5, 1.5, 1.0), step_of("eta", 0.001)),
    (step_of("temperature", 1.5), step_of("mirostat", 3.0, 0.1), step_of("annealed_temperature", 1.2, 0.1, 30.0)),
]


def on_all_tokens(logits: torch.Tensor, pipelines) -> torch.Tensor:
    """What `apply_to_logits` means: every row sorted."""
    t, token_ids = sort_logits(logits)
    t = apply_on_support(t, None, pipelines).t
    return torch.empty_like(t).scatter_(-1, token_ids, t)


def assert_windows_change_nothing(logits: torch.Tensor, pipelines) -> None:
    """The same tokens are kept, with the same logits.

    Where a temperature follows from sums, as an entropy, logits may be rounded to the next float32 number.
    """
    ours, expected = apply_to_logits(logits, pipelines), on_all_tokens(logits, pipelines)
    assert torch.equal(ours > -math.inf, expected > -math.inf)
    kept = expected > -math.inf
    summed = [any(step.name.endswith(("dynamic_temperature", "entropy_temperature")) for step in p) for p in pipelines]
    exact = ~torch.tensor(summed)[:, None]
    assert torch.equal(ours[kept & exact], expected[kept & exact])
    torch.testing.assert_close(ours[kept], expected[kept], rtol=2e-7, atol=0)


def adversarial_rows(vocabulary: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(vocabulary)
    bell = torch.randn(vocabulary, generator=generator) * 2.5
    peaked = bell.clone()
    peaked[:40] += torch.linspace(14, 4, 40)[:vocabulary]
    banned, finite = peaked.clone(), peaked.clone()
    banned[1::3] = -math.inf
    finite[1::2] = -1e30
    lonely = torch.full((vocabulary,), -math.inf)
    lonely[vocabulary // 2] = 3.0
    tied = torch.full((vocabulary,), -5.0)
    tied[: min(300, vocabulary)] = 1.0
    return {
        "bell": bell,
        "zipf": zipf_logits(1, vocabulary, seed=3)[0],
        "peaked": peaked,
        "one far above": torch.where(torch.arange(vocabulary) == 1, 60.0, bell),
        "bfloat16": peaked.bfloat16().float(),
        "bfloat16 bell": bell.bfloat16().float(),
        "flat": torch.zeros(vocabulary),
        "nearly flat": bell * 1e-4 + 500,
        "hundreds tie on top": tied,
        "tied at the edges": torch.arange(vocabulary).div(64, rounding_mode="floor").flip(0) * 0.3,
        "banned": banned,
        "banned by a number": finite,
        "one token": lonely,
        "zeros of both signs": torch.where(torch.arange(vocabulary) % 2 == 0, 0.0, -0.0) - (bell < 0).float() * 3,
    }


@pytest.fixture(params=[(1, 2, 5), (3, 8, 64)], ids=str)
def small_windows(request, monkeypatch):
    monkeypatch.setattr(windows, "WINDOW_SIZES", request.param)


@pytest.fixture(params=PASSES, ids=["compiled", "portable"])
def passes(request, monkeypatch):
    monkeypatch.setattr(windows, "passes_for", lambda kind: request.param)


@pytest.mark.parametrize("which", PASSES, ids=["compiled", "portable"])
@settings(max_examples=300, deadline=None)
@given(rows_of_logits(), st.integers(1, 39))
def test_a_window_holds_the_largest_in_order(which, logits, size):
    vocabulary = logits.shape[1]
    if size >= vocabulary:
        return
    t, token_ids, edges = which.largest(logits, torch.tensor([0]), size)
    order = torch.sort(logits, dim=-1, descending=True, stable=True)
    assert edges[0] == order.values[0, size]
    inside = int((order.values[0] > edges[0]).sum())
    assert torch.equal(t[0, :inside], order.values[0, :inside]) and (t[0, inside:] == -math.inf).all()
    assert torch.equal(token_ids[0, :inside], order.indices[0, :inside])


@pytest.mark.parametrize("which", PASSES, ids=["compiled", "portable"])
@pytest.mark.parametrize("vocabulary", [40, 5003])
def test_sums_below_the_edge_are_those_of_float64(which, vocabulary):
    assert_sums_are_those_of_float64(which, vocabulary)


def assert_sums_are_those_of_float64(which: Any, vocabulary: int, rounding: float = 1e-14) -> None:
    """What passes say of the tokens below edges, against NumPy; `rounding` is that of a weight, a float32 number."""
    logits = torch.stack(list(adversarial_rows(vocabulary).values()))
    rows = torch.arange(len(logits)).flip(0)
    for size in (1, 7, 30):
        edges = which.largest(logits, rows, size)[2]
        largest, temperatures = logits.double().amax(-1)[rows], torch.linspace(0.3, 2, len(rows)).double()
        found = {
            "sums": which.sums(logits, rows, edges, largest, temperatures),
            "moments": which.moments(logits, rows, edges),
            "masses": which.drawing_masses(
                logits, rows, edges, largest.div(temperatures).float(), temperatures[:, None]
            ),
        }
        for place, row in enumerate(rows):
            value = logits[row][(logits[row] <= edges[place]) & logits[row].isfinite()].double().numpy()
            depth = (value - largest[place].item()) / temperatures[place].item()
            w = np.exp(depth)
            np.testing.assert_allclose(found["sums"][place], [w.sum(), (w * depth).sum(), (w**2).sum()], 1e-13, 1e-290)
            mean = value.mean() if len(value) else 0.0
            smallest = value.min(initial=math.inf) if len(value) else 0.0
            squares = ((value - mean) ** 2).sum()
            count, low, *others = found["moments"][place].tolist()
            assert count == len(value) and (low == smallest or not len(value))
            np.testing.assert_allclose(others, [mean, squares], 1e-12, 1e-20 * max(1, abs(mean)))
            t = torch.from_numpy(value / temperatures[place].item()).float()
            weights = (t - largest[place].div(temperatures[place]).float()).exp().double().sum()
            assert float(found["masses"][place]) == pytest.approx(float(weights), rel=rounding, abs=1e-30)


@settings(max_examples=600, deadline=None)
@given(rows_of_logits(), chains, st.lists(st.integers(1, 20), min_size=1, max_size=3, unique=True))
def test_windows_change_nothing(logits, pipeline, sizes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "WINDOW_SIZES", tuple(sorted(sizes)))
        assert_windows_change_nothing(logits, [pipeline])


@pytest.mark.parametrize("vocabulary", [1, 2, 5, 130, 3001])
def test_windows_change_nothing_on_adversarial_rows(vocabulary, small_windows, passes):
    logits = torch.stack(list(adversarial_rows(vocabulary).values()))
    for pipeline in FIXED:
        pipelines = [pipeline] * len(logits)
        assert_windows_change_nothing(logits, pipelines)


def test_windows_change_nothing_on_large_vocabularies(passes):
    logits = torch.stack(list(adversarial_rows(20_000).values()))
    for pipeline in FIXED:
        pipelines = [pipeline] * len(logits)
        assert_windows_change_nothing(logits, pipelines)


def test_mixed_rows_are_each_its_own(small_windows):
    logits = torch.stack([row for row in adversarial_rows(700).values() for _ in range(4)])
    pipelines = [FIXED[i % len(FIXED)] for i in range(len(logits))]
    assert_windows_change_nothing(logits, pipelines)


def test_a_window_suffices_where_tokens_are_few():
    """Or all the tests above would hold of windows that never say anything."""
    logits = zipf_logits(6, 20_000, seed=4) * 3
    window = Windows.of(logits, range(6), 256)
    told = 0
    for pipeline in FIXED:
        kept = apply_on_windows(window, torch.arange(6), [pipeline] * 6, [initial_state(pipeline)] * 6)
        left = on_all_tokens(logits, [pipeline] * 6) > -math.inf
        few = (left.sum(-1) < 100) | left.all(-1)
        assert not set(kept.unsure) & set(few.nonzero().flatten().tolist()), pipeline
        told += 6 - len(kept.unsure)
    assert told > 0.8 * 6 * len(FIXED)


def test_what_is_no_distribution_is_refused_whatever_its_sign(small_windows):
    negative = torch.tensor([0xFFC00000 - 2**32], dtype=torch.int32).view(torch.float32)
    for bad in (math.inf, math.nan, negative.item()):
        logits = torch.zeros(3, 600)
        logits[1, 2] = bad
        with pytest.raises(ValueError, match="row 1"):
            apply_to_logits(logits, [(step_of("top_p", 0.8),)] * 3)
    with pytest.raises(ValueError, match="every token masked"):
        apply_to_logits(torch.full((1, 600), -math.inf), [()])


def drawn_from_all(log_probs, rows, pipelines, states, numbers):
    """The reference, every row sorted: tokens, their log-probabilities, new states, and how near a boundary is."""
    t, order = sort_logits(log_probs[rows])
    changed = apply_on_support(t, None, pipelines, states)
    places = draw(changed.t, numbers)[:, None]
    stateful = [i for i, pipeline in enumerate(pipelines) if is_stateful(pipeline)]
    following = list(states)
    if stateful:
        drawn = changed.rows(stateful).log_probs.gather(1, places[stateful]).squeeze(1)
        for i, state in zip(
            stateful, next_states([pipelines[i] for i in stateful], [states[i] for i in stateful], drawn), strict=True
        ):
            following[i] = state
    weights = torch.exp(changed.t - changed.t.amax(-1, keepdim=True)).cumsum(-1, dtype=torch.float64)
    distances = (weights / weights[:, -1:] - numbers[:, None]).abs().amin(-1)
    return order.gather(1, places).squeeze(1), t.gather(1, places).squeeze(1), following, distances


@pytest.mark.parametrize("vocabulary", [700, 20_000])
def test_draws_are_those_from_all_tokens(vocabulary, passes, monkeypatch):
    """Token by token, with states, rows that answers share, and levels that follow what was needed."""
    if vocabulary < 1000:
        monkeypatch.setattr(windows, "WINDOW_SIZES", (4, 16, 64))
    logits = torch.stack(list(adversarial_rows(vocabulary).values()))
    log_probs = logits.log_softmax(-1)
    generator = torch.Generator().manual_seed(1)
    rows = [i % len(logits) for i in range(2 * len(FIXED))]
    pipelines = [FIXED[i // 2] for i in range(2 * len(FIXED))]
    uniforms = torch.rand(len(rows), 12, generator=generator, dtype=torch.float64)
    answers = [
        Draws(pipeline, initial_state(pipeline), numbers) for pipeline, numbers in zip(pipelines, uniforms, strict=True)
    ]
    for step in range(uniforms.shape[1]):
        rows = rows[1:] + rows[:1]
        states = [answer.state for answer in answers]
        tokens, values, following, distances = drawn_from_all(log_probs, rows, pipelines, states, uniforms[:, step])
        found = draw_tokens(log_probs, rows, answers, [step] * len(rows))
        ranks, _ = ranks_and_log_probs(log_probs[rows], torch.tensor(found.token_ids))
        assert found.ranks == ranks.tolist()
        far = (distances > 1e-9).tolist()
        assert sum(far) > len(far) / 2
        for i in range(len(rows)):
            if far[i]:
                assert found.token_ids[i] == tokens[i] and found.log_probs[i] == values[i]
                for ours, theirs in zip(answers[i].state, following[i], strict=True):
                    np.testing.assert_array_equal(ours, theirs)
            answers[i].state = following[i]
    assert len({answer.level for answer in answers}) > 1


def test_a_draw_may_differ_only_next_to_a_boundary(passes):
    """Uniform numbers at 1e-9 on both sides of boundaries of real shapes, in the window and below it."""
    rows = adversarial_rows(20_000)
    logits = torch.stack([rows[name] for name in ("zipf", "peaked", "bfloat16", "tied at the edges", "banned")])
    log_probs = logits.log_softmax(-1)
    for pipeline in [(), (step_of("temperature", 0.7),), (step_of("temperature", 1.4),), (step_of("top_p", 0.9),)]:
        t, order = sort_logits(log_probs)
        changed = apply_on_support(t, None, [pipeline] * len(t)).t
        weights = torch.exp(changed - changed.amax(-1, keepdim=True)).cumsum(-1, dtype=torch.float64)
        for place in (0, 1, 10, 200, 400, 3000):
            boundary = weights[:, place] / weights[:, -1]
            for numbers in (boundary - 1e-9, boundary + 1e-9):
                numbers = numbers.clamp(0, 1 - 1e-12)
                expected = order.gather(1, draw(changed, numbers)[:, None]).squeeze(1).tolist()
                answers = [Draws(pipeline, initial_state(pipeline), number[None]) for number in numbers]
                assert draw_tokens(log_probs, range(len(t)), answers, [0] * len(t)).token_ids == expected


def test_levels_change_no_draw():
    logits = torch.stack(list(adversarial_rows(20_000).values()))
    log_probs, uniforms = logits.log_softmax(-1), torch.linspace(0, 0.999, 5, dtype=torch.float64)
    for pipeline in FIXED[::4]:
        drawn = []
        for level in range(5):
            answers = [Draws(pipeline, initial_state(pipeline), uniforms, level) for _ in logits]
            drawn.append([draw_tokens(log_probs, range(len(logits)), answers, [i] * len(logits)) for i in range(5)])
        assert all(one == drawn[0] for one in drawn), pipeline


def test_a_heuristic_written_for_all_tokens_is_right_unchanged():
    """One that reads single points, and one that makes a support of its own."""
    before = dict(HEURISTICS)
    try:

        @heuristic(share=Numbers(at_least=0, at_most=1))
        def above_average(support: Support, share: torch.Tensor) -> Support:
            mean = (support.probabilities * support.log_probs.clamp(min=-1e9)).sum(-1, keepdim=True)
            return support.keep_probable(share * mean.exp())

        @heuristic()
        def every_second(support: Support) -> Support:
            n = support.n.clone()
            n[:, 1::2] = 0
            return Support(support.t.masked_fill(n <= 0, -math.inf), n, support.span)

        logits = torch.stack(list(adversarial_rows(20_000).values()))
        for chain in [
            (step_of("above_average", 0.5),),
            (step_of("every_second"), step_of("top_p", 0.7)),
            (step_of("top_k", 40), step_of("every_second"), step_of("temperature", 0.7), step_of("min_p", 0.1)),
        ]:
            pipelines = [chain] * len(logits)
            assert_windows_change_nothing(logits, pipelines)
    finally:
        HEURISTICS.clear()
        HEURISTICS.update(before)


def test_without_numba_the_same_in_plain_pytorch(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "adaptive_samplers.heuristics.window_passes", None)
    monkeypatch.delattr("adaptive_samplers.heuristics.window_passes")
    windows.passes_for.cache_clear()
    try:
        assert_windows_change_nothing(zipf_logits(3, 2000, seed=2), [(step_of("top_p", 0.9),)] * 3)
        assert windows.passes_for("cpu") is portable and "numba" in caplog.text
    finally:
        windows.passes_for.cache_clear()
