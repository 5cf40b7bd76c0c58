"""The whole decoding step in numba: its output logits against every token in float64, its draws against both."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_passes import rows_of_logits
from test_samplers import perturbed
from test_sketch import zipf_logits

from adaptive_samplers.samplers import SamplingNetwork, build_sampler
from adaptive_samplers.samplers.passes import numba_decoding, numba_passes
from adaptive_samplers.samplers.passes.numba_passes import BLOCK, PART

SMALL = {"d_model": 16, "d_ff": 24, "n_blocks": 2, "n_heads": 4}


def total_variation(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one.double().softmax(-1) - other.double().softmax(-1)).abs().sum(-1) / 2


def exact(network: SamplingNetwork, logits: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return copy.deepcopy(network).double().logits(logits.double(), exact=True)


def drawn_from(network: SamplingNetwork, logits: torch.Tensor) -> torch.Tensor:
    """The output logits that `draw` draws from, which computes them for few tokens only."""
    rows, (levels, lines) = logits.numpy(), numba_decoding._levels()
    output, described = np.empty_like(rows), numba_decoding.network_of(network)
    for row, filled in zip(rows, output, strict=True):
        counted = np.empty((numba_decoding.parts(len(row)), numba_decoding.INTERVALS + 1), np.int64)
        place, smooth, truncation = (np.empty(size, np.float32) for size in (5, numba_decoding.INTERVALS + 1, 2))
        arguments = (described, levels, lines, False, counted, place, smooth, truncation)
        assert numba_decoding._function_of(row, network.lowest_log_prob, *arguments) >= 0
        numba_passes._spread_row(row, place, smooth, truncation, filled)
    return torch.from_numpy(output)


def bell(rows: int, vocabulary: int, width: float = 2.5, seed: int = 0) -> torch.Tensor:
    """A wide bell of unlikely tokens, and a few likely ones among them."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, vocabulary, generator=generator) * width
    logits[:, torch.randperm(vocabulary, generator=generator)[:60]] += torch.linspace(14, 4, 60)
    return logits


def assert_inverse(drawn, logits, output, uniforms, tolerance):
    """Each token is where the cumulative distribution of the output logits reaches the row's uniform number."""
    assert (logits.gather(1, drawn[:, None]) > -1e30).all()
    cumulative = output.double().softmax(-1).cumsum(-1)
    upper = cumulative.gather(1, drawn[:, None]).squeeze(1)
    lower = torch.nn.functional.pad(cumulative, (1, 0)).gather(1, drawn[:, None]).squeeze(1)
    assert ((lower - tolerance <= uniforms) & (uniforms <= upper + tolerance)).all()


@pytest.mark.parametrize("architecture", [{}, SMALL, {**SMALL, "scale": False}], ids=["default", "small", "fixed"])
@pytest.mark.parametrize("make", [build_sampler, perturbed], ids=["fresh", "bent"])
@pytest.mark.parametrize("width", [0.2, 1.0, 2.5, 8.0])
def test_as_close_to_every_token_in_float64_as_is_promised(architecture, make, width):
    """However much the network bends, and however wide the distribution is."""
    network = make("SamplingNetwork", architecture, seed=3)
    for rows in (bell(3, 5000, width), (bell(3, 5000, width) / 2).bfloat16().float()):
        expected = exact(network, rows)
        for output in (network.logits(rows), drawn_from(network, rows)):
            assert total_variation(output, expected).max() < 1e-4


def test_a_network_that_bends_gets_more_nodes():
    row = bell(1, 5000)[0]

    def level(network: SamplingNetwork) -> int:
        described, (levels, lines) = numba_decoding.network_of(network), numba_decoding._levels()
        token, largest = np.empty(1, np.int64), np.empty(1, np.float32)
        return numba_decoding._draw_step(row.numpy(), 0.5, -50.0, described, levels, lines, 1, token, largest)

    assert level(build_sampler("SamplingNetwork", {}, seed=0)) == 0 < level(perturbed("SamplingNetwork", SMALL, seed=3))


@settings(max_examples=100, deadline=None)
@given(rows_of_logits(), st.integers(0, 2**20))
def test_draws_invert_the_cumulative_distribution(logits, seed):
    network = perturbed("SamplingNetwork", SMALL)
    uniforms = torch.rand(len(logits), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    drawn = numba_decoding.draw(network, logits, uniforms)
    assert_inverse(drawn, logits, network.logits(logits), uniforms, tolerance=1e-4)


@pytest.mark.parametrize("size", [PART - 1, PART, PART + 1, 2 * PART + 3 * BLOCK + 5])
@pytest.mark.parametrize("make", ["bell", "bfloat16", "narrow", "flat", "masked", "peaked"])
def test_draws_from_several_parts_of_a_row(size, make):
    """The counts of the parts tell where a draw falls as well as the tokens do."""
    row = bell(1, size, seed=1)
    if make == "bfloat16":
        row = row.bfloat16().float()
    elif make == "narrow":
        row = row / 30
    elif make == "flat":
        row = torch.zeros_like(row)
    elif make == "masked":
        row[:, : PART + 3] = -torch.inf
        row[:, -1] = 20.0
    elif make == "peaked":
        row = 6 * row
    uniforms = torch.cat([torch.linspace(0, 1, 300, dtype=torch.float64), torch.tensor([1 - 2**-53]).double()])
    rows = row.expand(len(uniforms), -1)
    for network in (build_sampler("SamplingNetwork", {}, seed=0), perturbed("SamplingNetwork", SMALL)):
        drawn = numba_decoding.draw(network, rows, uniforms)
        output = drawn_from(network, row)
        assert_inverse(drawn, rows, output.expand(len(uniforms), -1), uniforms, tolerance=3e-6)
        # As before, when every token was weighed: the same but next to a boundary.
        before = numba_passes.draw(row, *network._at_knots(row), uniforms[:1])
        assert before.item() == drawn[0].item()


def test_counts_that_do_not_tell_are_not_asked():
    """Where the truncation is a step, the middle of an interval tells nothing of the tokens in it."""
    network = build_sampler("SamplingNetwork", SMALL, seed=0)
    with torch.no_grad():
        network.truncation_head.down_proj.weight.zero_()
        network.truncation_head.down_proj.bias.copy_(torch.tensor([3000.0, 30_000.0]))
    row = (bell(1, 3 * PART, width=0.3) * 0.02).sort(-1).values
    uniforms = torch.linspace(0, 1, 200, dtype=torch.float64)
    rows = row.expand(200, -1)
    drawn = numba_decoding.draw(network, rows, uniforms)
    assert_inverse(drawn, rows, drawn_from(network, row).expand(200, -1), uniforms, tolerance=3e-6)


def test_draws_of_the_older_way_differ_only_at_boundaries():
    network = build_sampler("SamplingNetwork", {}, seed=0)
    rows = zipf_logits(200, 49_152)
    uniforms = torch.rand(200, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    drawn = numba_decoding.draw(network, rows, uniforms)
    before = numba_passes.draw(rows, *network._at_knots(rows), uniforms)
    assert_inverse(drawn, rows, drawn_from(network, rows), uniforms, tolerance=3e-6)
    assert (drawn != before).sum() <= 2


@torch.no_grad()
def test_rows_do_not_depend_on_threads_or_batch_mates():
    network = perturbed("SamplingNetwork", SMALL)
    rows = bell(5, PART + 100)
    uniforms = torch.rand(5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append((network.logits(rows), numba_decoding.draw(network, rows, uniforms)))
    finally:
        torch.set_num_threads(threads)
    (output, drawn), (others_output, others_drawn) = results
    assert torch.equal(output, others_output) and torch.equal(drawn, others_drawn)
    assert torch.equal(network.logits(rows[3:4])[0], output[3])
    assert numba_decoding.draw(network, rows[3:4], uniforms[3:4]).item() == drawn[3].item()


def test_no_rows_are_drawn_from():
    network = perturbed("SamplingNetwork", SMALL)
    assert network.sample(torch.zeros(0, 10)).shape == (0,)
    assert network.logits(torch.zeros(0, 10)).shape == (0, 10)
