"""The passes in numba over the vocabulary against the portable ones, and the portable ones against plain NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_samplers.samplers.passes import numba_passes, portable
from adaptive_samplers.samplers.passes.knots import REACH, between, on_every

INTERVALS = 128


@st.composite
def rows_of_logits(draw) -> torch.Tensor:
    """Rows `[B, V]`: bells and heavy tails of any width, some with ties, some tokens masked in one of two ways."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    rows, size = draw(st.integers(1, 4)), draw(st.sampled_from([1, 2, 7, 100, 2047, 2048, 2049, 5003]))
    logits = torch.randn(rows, size, generator=generator)
    if draw(st.booleans()):
        logits = logits / torch.rand(rows, size, generator=generator).clamp(min=1e-3).sqrt()
    logits = logits * draw(st.sampled_from([0.0, 1e-3, 1.0, 5.0, 40.0])) + draw(st.sampled_from([0.0, -30.0, 500.0]))
    if draw(st.booleans()):
        logits = logits.bfloat16().float()
    masked = torch.rand(rows, size, generator=generator) < draw(st.sampled_from([0.0, 0.3, 0.95]))
    masked[:, draw(st.integers(0, size - 1))] = False
    return logits.masked_fill(masked, draw(st.sampled_from([-torch.inf, torch.finfo(torch.float32).min])))


def counted(logits: torch.Tensor) -> torch.Tensor:
    """Which tokens are neither masked nor banned."""
    return (logits > -1e30) & (logits > logits.amax(-1, keepdim=True) - 1000)


def some_function(condensed, seed=0):
    """A smooth part with truncation, as an architecture would give it."""
    generator = torch.Generator().manual_seed(seed)
    t = condensed.sketch.t
    smooth = t * (0.3 + torch.rand(len(t), 1, generator=generator)) + torch.sin(t)
    return smooth, torch.rand(len(t), 1, generator=generator) * 3, torch.randn(len(t), 1, generator=generator) * 5


@settings(max_examples=150, deadline=None)
@given(rows_of_logits(), st.sampled_from([4, INTERVALS, 2048]))
def test_numba_condensing_agrees_with_the_definition(logits, intervals):
    ours, definition = numba_passes.condense(logits, intervals), portable.condense(logits, intervals)
    spread = logits.abs().masked_fill(logits < -1e30, 0).amax().item()
    assert torch.allclose(ours.sketch.t, definition.sketch.t, atol=1e-6 * (1 + spread), rtol=1e-6)
    # A position is rounded to two millionths of an interval, and to float32 before.
    tolerance = 1e-6 * intervals * (1 + spread) + 2e-6 * logits.shape[1]
    assert torch.allclose(ours.sketch.n, definition.sketch.n, atol=tolerance, rtol=1e-5)
    assert torch.allclose(ours.sketch.total_count, counted(logits).sum(-1).float(), rtol=1e-6)


@settings(max_examples=100, deadline=None)
@given(rows_of_logits())
def test_condensing_keeps_counts_and_first_moments(logits):
    condensed = portable.condense(logits, INTERVALS)
    for row, t, n in zip(logits.double(), condensed.sketch.t.double(), condensed.sketch.n.double(), strict=True):
        log_probs = (row[row > -1e30]).log_softmax(0)
        spread = (log_probs.max() - log_probs.min()).item()
        assert t[0].item() == pytest.approx(log_probs.max().item(), abs=1e-4)
        assert t[-1].item() == pytest.approx(log_probs.min().item(), abs=1e-4 * (1 + spread))
        log_probs = log_probs[counted(log_probs)]
        assert (n >= -1e-3).all() and n.sum().item() == pytest.approx(len(log_probs), rel=1e-6)
        assert (n * t).sum().item() == pytest.approx(log_probs.sum().item(), rel=1e-5, abs=1e-3)


def test_few_intervals_cover_what_lies_far_below():
    logits = torch.linspace(0, -20, 1000)[None].repeat(2, 1)
    logits[1, 0] = -900.0
    plain, with_outlier = portable.condense(logits, INTERVALS).sketch.t
    assert torch.allclose(plain.diff(), torch.full((INTERVALS,), -20 / INTERVALS), atol=1e-4)
    assert torch.allclose(with_outlier.diff()[:96], torch.full((96,), -REACH / 96), atol=1e-4)
    assert torch.allclose(with_outlier.diff()[96:], torch.full((32,), -(900 - REACH) / 32), rtol=1e-3)


@settings(max_examples=150, deadline=None)
@given(rows_of_logits())
def test_numba_spreading_agrees_with_the_definition(logits):
    condensed = portable.condense(logits, INTERVALS)
    arguments = (logits, condensed, *some_function(condensed))
    ours, definition = numba_passes.spread(*arguments), portable.spread(*arguments)
    assert torch.equal(ours == -torch.inf, logits < -1e30)
    assert torch.equal(definition == -torch.inf, logits < -1e30)
    kept = logits > -1e30
    assert torch.allclose(ours[kept], definition[kept], atol=2e-3, rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(rows_of_logits())
def test_spreading_interpolates_and_truncates_as_numpy_does(logits):
    condensed = portable.condense(logits, INTERVALS)
    smooth, scale, threshold = some_function(condensed)
    output = portable.spread(logits, condensed, smooth, scale, threshold)
    depths = condensed.grid.knots().numpy()
    for row in range(len(logits)):
        kept = (logits[row] > -1e30).numpy()
        depth = float(logits[row].max()) - logits[row].double().numpy()[kept]
        order = np.flatnonzero(np.append(True, np.diff(depths[row]) > 0))
        between = np.interp(depth, depths[row][order], smooth[row].double().numpy()[order])
        argument = between * scale[row].item() + threshold[row].item()
        expected = between - np.logaddexp(0, -argument)
        assert np.allclose(output[row].numpy()[kept], expected, atol=5e-3, rtol=1e-4)


@settings(max_examples=150, deadline=None)
@given(rows_of_logits(), st.integers(0, 2**20))
def test_draws_invert_the_cumulative_distribution(logits, seed):
    condensed = portable.condense(logits, INTERVALS)
    arguments = (logits, condensed, *some_function(condensed))
    uniforms = torch.rand(len(logits), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    cumulative = portable.spread(*arguments).double().softmax(-1).cumsum(-1)
    for draw in (numba_passes.draw, portable.draw):
        drawn = draw(*arguments, uniforms)
        assert (logits.gather(1, drawn[:, None]) > -1e30).all()
        upper = cumulative.gather(1, drawn[:, None]).squeeze(1)
        lower = torch.nn.functional.pad(cumulative, (1, 0)).gather(1, drawn[:, None]).squeeze(1)
        assert ((lower - 1e-4 <= uniforms) & (uniforms <= upper + 1e-4)).all()


def test_draws_follow_the_distribution():
    logits = torch.randn(1, 5000, generator=torch.Generator().manual_seed(0)) * 3
    condensed = numba_passes.condense(logits, INTERVALS)
    arguments = (condensed, *some_function(condensed))
    expected = portable.spread(logits, *arguments).softmax(-1)[0]
    many = 100_000
    uniforms = (torch.arange(many, dtype=torch.float64) + 0.5) / many
    function = [value.expand(many, -1) for value in arguments[1:]]
    grid = type(condensed.grid)(INTERVALS, *(getattr(condensed.grid, name).expand(many) for name in GRID_ROWS))
    copies = type(condensed)(grid, condensed.floor.expand(many), condensed.sketch)
    drawn = numba_passes.draw(logits.expand(many, -1), copies, *function, uniforms)
    # Evenly spaced uniform numbers leave each token at most one draw from its share.
    assert ((drawn.bincount(minlength=5000) - many * expected).abs() < 1.5).all()


GRID_ROWS = ("largest", "split", "near", "far")


@pytest.mark.parametrize("passes", [numba_passes, portable])
def test_what_is_no_distribution_is_refused(passes):
    good = torch.zeros(1, 5)
    for bad in (torch.nan, torch.inf):
        row = torch.tensor([[0.0, 1.0, bad, 0.0, -1.0]])
        with pytest.raises(ValueError, match="NaN"):
            passes.condense(torch.cat([good, row]), INTERVALS)
    with pytest.raises(ValueError, match="masked"):
        passes.condense(torch.cat([good, torch.full((1, 5), -torch.inf)]), INTERVALS)


def test_rows_do_not_depend_on_threads_or_batch_mates():
    logits = torch.randn(7, 9001, generator=torch.Generator().manual_seed(1)) * 4
    condensed = numba_passes.condense(logits, INTERVALS)
    arguments = (logits, condensed, *some_function(condensed))
    alone = numba_passes.condense(logits[3:4], INTERVALS)
    assert torch.equal(condensed.sketch.n[3:4], alone.sketch.n) and torch.equal(condensed.sketch.t[3:4], alone.sketch.t)
    threads = torch.get_num_threads()
    outputs = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            outputs.append(numba_passes.spread(*arguments))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*outputs)


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_sums_over_coarser_knots_are_sums_over_the_tokens(stride):
    logits = torch.randn(3, 200_000, generator=torch.Generator().manual_seed(2)) * torch.tensor([[1.0], [4.0], [30.0]])
    condensed = portable.condense(logits, 256)
    coarse = on_every(stride, condensed.sketch)
    assert coarse.t.shape == (3, 256 // stride + 1)
    assert torch.allclose(coarse.total_count, torch.tensor(200_000.0), rtol=1e-6)
    tokens, knots = condensed.grid.position(logits).double() / 256, torch.linspace(0, 1, 257, dtype=torch.float64)
    for function in (lambda x: x, lambda x: x**2, lambda x: x**3, lambda x: torch.sin(4 * x)):
        exact = function(tokens).sum(-1)
        by_lines = ((condensed.sketch.n * function(knots)).sum(-1) - exact).abs()
        by_cubics = ((coarse.n * function(knots[::stride])).sum(-1) - exact).abs()
        assert (by_cubics < (by_lines / 4).clamp(min=0.2)).all()


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_lines_between_all_knots_follow_cubics_on_the_mean(stride):
    places = torch.linspace(-1, 1, 257, dtype=torch.float64)
    for power in range(4):
        values = between(stride, (places[::stride] ** power)[None])[0].double()
        lines = (values[1:] + values[:-1]) / 2
        integral = (places ** (power + 1) / (power + 1)).diff() / places.diff()
        inside = torch.ones(256, dtype=torch.bool)
        inside[[0, 191, 192, 255]] = False  # at the ends, and where the spacing may change, knots are met exactly
        assert torch.allclose(lines[inside], integral[inside], atol=1e-6)
        assert values[[0, 192, 256]].tolist() == pytest.approx((places[[0, 192, 256]] ** power).tolist(), abs=1e-6)


def test_cubics_do_not_reach_across_the_change_of_spacing():
    values = torch.arange(257.0).clamp(min=192)[None]  # a bend at the 192nd of 256 intervals
    fine = between(4, values)[0]
    assert torch.allclose(fine, (torch.arange(1025.0) / 4).clamp(min=192), atol=1e-3)
