"""The sketch keeps what it promises: counts, first moments, exact tops, and small errors everywhere else."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from adaptive_samplers import sketch_passes, sketch_passes_portable
from adaptive_samplers.logits import sorted_log_probs
from adaptive_samplers.sketch import DistributionSketch


def zipf_logits(rows: int, vocabulary: int, seed: int = 0) -> torch.Tensor:
    """Logits with a head and a long noisy tail, shuffled, of various peakedness."""
    generator = torch.Generator().manual_seed(seed)
    exponent = torch.rand(rows, 1, generator=generator) * 1.5 + 0.8
    logits = -exponent * torch.log(torch.arange(1, vocabulary + 1.0))
    logits = logits + torch.randn(rows, vocabulary, generator=generator)
    return logits[:, torch.randperm(vocabulary, generator=generator)]


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays("float32", st.integers(1, 60), elements=st.floats(-50, 50, width=16)),
    st.integers(1, 20),
    st.integers(2, 12),
    st.floats(0, 0.9),
)
def test_counts_and_probability_are_kept(values, top, tail, masked_share):
    logits = torch.from_numpy(values)
    logits[1 : 1 + int(masked_share * (len(values) - 1))] = -torch.inf
    sketch = DistributionSketch.from_logits(logits, top, tail)

    kept = logits[logits > -torch.inf]
    log_probs = kept.double().log_softmax(0).sort(descending=True).values
    assert sketch.t.shape == sketch.n.shape == (top + tail,)
    assert sketch.t.isfinite().all() and (sketch.n >= 0).all()
    assert (sketch.t.diff() <= 0).all()
    assert sketch.total_count.item() == len(kept)
    exact = min(top, len(kept))
    assert torch.allclose(sketch.t[:exact], log_probs[:exact].float(), atol=2e-5)
    assert sketch.n[:top].tolist() == [1.0] * exact + [0.0] * (top - exact)
    # Every point has the mean probability of the tokens between the ranks that the counts before it and with it say.
    ends = sketch.n.long().cumsum(0).tolist()
    for point, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        if end > start:
            mean = log_probs[start:end].logsumexp(0).item() - math.log(end - start)
            assert sketch.t[point].item() == pytest.approx(mean, abs=2e-5)
    assert sketch.expect(torch.ones_like).item() == pytest.approx(1, rel=1e-5)


@settings(max_examples=100, deadline=None)
@given(hnp.arrays("float32", st.integers(5, 80), elements=st.floats(-30, 30, width=16)), st.integers(2, 12))
def test_groups_of_the_tail_are_narrow_in_probability_and_in_range(values, tail):
    logits = torch.from_numpy(values)
    sketch = DistributionSketch.from_logits(logits, 2, tail)
    s = logits.double().log_softmax(0).sort(descending=True).values[2:]
    ends = (sketch.n[2:].long().cumsum(0)).tolist()
    for start, end in zip([0, *ends], ends, strict=False):
        if end - start > 1:
            group = s[start:end]
            # The last token may lie on the border, so that what comes before it is what is bounded.
            assert group[:-1].exp().sum() <= 2 / tail * s.exp().sum() * (1 + 1e-4) + 1e-12
            assert group[0] - group[-1] <= 2 / tail * (s[0] - s[-1]) * (1 + 1e-4) + 1e-4


def test_distinct_values_lose_nothing():
    logits = zipf_logits(5, 30_000).bfloat16()
    logits[:, ::9] = -torch.inf
    sketch = DistributionSketch.from_distinct_values(logits)
    for row in range(5):
        values, counts = logits[row][logits[row] > -torch.inf].float().unique(return_counts=True)
        points = len(values)
        assert points < 4000 and sketch.n[row, :points].tolist() == counts.flip(0).tolist()
        expected = logits[row].double().log_softmax(0)[logits[row] > -torch.inf].unique().flip(0)
        assert torch.allclose(sketch.t[row, :points].double(), expected, atol=2e-5)
        assert not sketch.n[row, points:].any()
    assert sketch.t.shape[-1] == max(int((row > 0).sum()) for row in sketch.n)


def test_resampling_keeps_counts_probability_and_the_top():
    logits = zipf_logits(6, 5000)
    sketch = DistributionSketch.from_logits(logits, 200, 100)
    coarse = sketch.resample(20, 60)
    assert coarse.t.shape == (6, 80)
    assert torch.equal(coarse.t[:, :20], sketch.t[:, :20])
    assert torch.equal(coarse.total_count, sketch.total_count)
    assert torch.allclose(coarse.expect(torch.ones_like), torch.ones(6), rtol=1e-5)
    assert torch.allclose(coarse.entropy(), sketch.entropy(), rtol=2e-3)
    directly = DistributionSketch.from_logits(logits, 20, 60)
    assert torch.allclose(coarse.entropy(), directly.entropy(), rtol=2e-3)
    with pytest.raises(ValueError, match="300 points"):
        sketch.resample(200, 101)


def test_sums_of_smooth_functions_are_close_to_the_exact_ones():
    logits = zipf_logits(16, 20_000)
    sketch = DistributionSketch.from_logits(logits, 128, 128)
    log_probs = logits.double().log_softmax(-1)
    probs = log_probs.exp()
    assert torch.allclose(sketch.entropy().double(), -(probs * log_probs).sum(-1), rtol=3e-4)
    assert torch.allclose(sketch.max().double(), log_probs.amax(-1), atol=1e-5)
    assert torch.allclose(sketch.expect(torch.ones_like).double(), torch.ones(16).double(), atol=1e-5)
    assert torch.allclose(sketch.expect(torch.square).double(), (probs * log_probs**2).sum(-1), rtol=5e-4)


def test_the_error_falls_with_the_square_of_the_spacing():
    logits = zipf_logits(8, 20_000)
    exact = -(logits.double().log_softmax(-1) * logits.double().softmax(-1)).sum(-1)
    errors = [
        (DistributionSketch.from_logits(logits, 32, tail).entropy() - exact).abs().mean().item()
        for tail in (33, 65, 129)
    ]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.3)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.3)


def test_mass_and_quantile():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]]))
    sketch = DistributionSketch.from_logits(logits, 4, 2)
    below = torch.tensor([0.29, 0.26]).log()
    assert torch.allclose(sketch.mass_above(below), torch.tensor([0.8, 0.0]))
    assert torch.allclose(sketch.mass_above(-100.0), torch.ones(2))
    assert torch.allclose(sketch.quantile(0.75).exp(), torch.tensor([0.3, 0.25]))
    assert torch.allclose(sketch.quantile(0.3).exp(), torch.tensor([0.5, 0.25]))


def test_a_constant_tail_and_ties_at_the_border():
    logits = torch.zeros(1, 1000)
    logits[0, 500] = 3.0
    sketch = DistributionSketch.from_logits(logits, 10, 8)
    assert sketch.total_count.item() == 1000
    assert sketch.n[0, :10].tolist() == [1.0] * 10
    assert torch.allclose(sketch.entropy(), -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1))


def test_many_equal_tokens_are_averaged_exactly():
    """Added one by one in float32, so many equal numbers would drift."""
    logits = torch.full((1, 200_000), -3.3337)
    logits[0, :3] = torch.tensor([5.0, 0.0, -10.0])
    sketch = DistributionSketch.from_logits(logits, 1, 8)
    assert sketch.total_count.item() == 200_000
    moment = (sketch.n.double() * sketch.t.double()).sum()
    assert moment.item() == pytest.approx(logits.double().log_softmax(-1).sum().item(), rel=1e-7)


def test_masked_tokens_are_left_out_however_they_are_written():
    logits = zipf_logits(3, 500)
    masked = torch.rand(3, 500, generator=torch.Generator().manual_seed(1)) < 0.4
    expected = DistributionSketch.from_logits(logits.masked_fill(masked, -torch.inf), 16, 16)
    lowest = torch.finfo(torch.float32).min
    written = DistributionSketch.from_logits(logits.masked_fill(masked, lowest), 16, 16)
    assert expected.total_count.tolist() == (~masked).sum(-1).tolist()
    assert torch.equal(expected.t, written.t) and torch.equal(expected.n, written.n)


def rows_of_all_kinds(vocabulary: int = 3000) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    normal = torch.randn(6, vocabulary, generator=generator) * 4
    banned, masked, few = normal.clone(), normal.clone(), torch.full_like(normal, -torch.inf)
    banned[:, 50:2900] = -1e4
    masked[:, 1::2] = -torch.inf
    few[:, 7:20] = normal[:, 7:20]
    return {
        "peaked": normal * 40,
        "long tail": zipf_logits(6, vocabulary),
        "flat": torch.zeros(6, vocabulary),
        "nearly flat": normal * 1e-3,
        "ties": normal.bfloat16().float().div(3).round(),
        "banned": banned,
        "masked": masked,
        "fewer than the top": few,
        "a single token": few.masked_fill(torch.arange(vocabulary) != 7, -torch.inf),
    }


@pytest.mark.parametrize(("top", "tail"), [(96, 64), (1, 2), (20, 7)])
@pytest.mark.parametrize("kind", rows_of_all_kinds())
def test_the_compiled_pass_groups_as_the_portable_one(kind, top, tail):
    logits = rows_of_all_kinds()[kind]
    t, n = sketch_passes.sketch_logits(logits, top, tail)
    expected_t, expected_n = sketch_passes_portable.sketch_logits(logits, top, tail)
    # Rounding may put a token at the boundary of two groups into the other one.
    same = n == expected_n
    assert (n.cumsum(-1) - expected_n.cumsum(-1)).abs().max() <= 1 and same.float().mean() > 0.9
    torch.testing.assert_close(t[same], expected_t[same], rtol=1e-6, atol=1e-6)
    assert torch.equal(n.sum(-1), expected_n.sum(-1)) and (t.diff() <= 0).all()


def test_on_the_cpu_the_pass_is_compiled(monkeypatch):
    monkeypatch.setattr(sketch_passes, "sketch_logits", lambda rows, top, tail: (rows[:, :1] + 1, rows[:, :1] + 2))
    assert DistributionSketch.from_logits(torch.zeros(1, 1), 4, 4).t.tolist() == [[1.0]]


@pytest.mark.parametrize("bad", [torch.nan, -torch.nan, torch.inf])
def test_what_is_no_distribution_is_refused(bad):
    with pytest.raises(ValueError, match="NaN"):
        DistributionSketch.from_logits(torch.tensor([[0.0, bad]]), 4, 4)
    with pytest.raises(ValueError, match="masked"):
        DistributionSketch.from_logits(torch.full((1, 3), -torch.inf), 4, 4)
    with pytest.raises(ValueError, match="groups"):
        DistributionSketch.from_logits(torch.zeros(1, 3), 4, 1)


def test_blocks_shapes_and_bfloat16(monkeypatch):
    logits = zipf_logits(6, 300)
    whole = DistributionSketch.from_logits(logits, 8, 8)
    monkeypatch.setattr("adaptive_samplers.sketch.BLOCK_ELEMENTS", 700)
    blocks = DistributionSketch.from_logits(logits.reshape(2, 3, 300), 8, 8)
    assert blocks.t.shape == (2, 3, 16)
    assert torch.equal(blocks.t.reshape(6, 16), whole.t) and torch.equal(blocks.n.reshape(6, 16), whole.n)
    rounded = logits.bfloat16()
    low, high = (DistributionSketch.from_logits(x, 8, 8) for x in (rounded, rounded.float()))
    assert low.t.dtype == torch.float32 and torch.equal(low.t, high.t)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_logits_sorted_by_several_threads_are_those_sorted_by_one(rows):
    logits = zipf_logits(rows, 300)
    logits[-1, 7] = -torch.inf
    alone = sorted_log_probs(logits)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        together = sorted_log_probs(logits)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(together, alone)
    expected = (logits - logits.logsumexp(-1, keepdim=True)).sort(-1, descending=True).values
    torch.testing.assert_close(together, expected, rtol=0, atol=1e-5)


def test_tensors_round_trip():
    sketch = DistributionSketch.from_logits(zipf_logits(3, 200), 8, 8)
    again = DistributionSketch.from_tensors(sketch.to_tensors())
    assert torch.equal(again.t, sketch.t) and torch.equal(again.n, sketch.n)
    with pytest.raises(ValueError, match="shape"):
        DistributionSketch(sketch.t, sketch.n[:2])
