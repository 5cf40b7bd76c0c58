"""The sampling network in numba against its definition in float64, and that it sees every change of the weights."""

import copy
import gc
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_samplers import perturbed
from test_sketch import zipf_logits

from adaptive_samplers.samplers import AdaptiveSampler, SamplingNetwork
from adaptive_samplers.samplers.passes import numba_decoding, numba_network

SMALL = {"d_model": 12, "d_ff": 20, "n_blocks": 2, "n_heads": 3}


@st.composite
def networks(draw) -> SamplingNetwork:
    """Widths that are multiples of four and such that are not, also SwiGLU layers without an inner feature."""
    d_model, n_heads = draw(st.sampled_from([(10, 5), (12, 12), (16, 4), (30, 3), (32, 4), (40, 1)]))
    config = {
        "d_model": d_model,
        "n_heads": n_heads,
        "d_ff": draw(st.sampled_from([1, 2, 8, 24, 64])),
        "n_blocks": draw(st.integers(0, 4)),
        "scale": draw(st.booleans()),
        "multiplier": draw(st.sampled_from([1, 1.3132617])),
    }
    return perturbed("SamplingNetwork", config, seed=draw(st.integers(0, 2**20)))


@st.composite
def points(draw) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and counts `[B, S]`, unordered, some counts 0, some of a whole vocabulary."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    shape = draw(st.integers(1, 5)), draw(st.one_of(st.integers(1, 20), st.integers(1, 300)))
    t = -torch.rand(shape, generator=generator) * draw(st.sampled_from([0.1, 5.0, 40.0]))
    n = torch.rand(shape, generator=generator) ** 4 * draw(st.sampled_from([1.0, 100.0, 1e5])) + 1e-3
    n[torch.rand(shape, generator=generator) < draw(st.sampled_from([0.0, 0.5]))] = 0
    n[:, draw(st.integers(0, shape[1] - 1))] = 1
    return t, n


@torch.no_grad()
def assert_as_defined(network, t, n, tolerance=1e-5):
    ours = numba_network.smooth_and_truncation(network, t, n)
    expected = copy.deepcopy(network).double().smooth_and_truncation(t.double(), n.double())
    for value, definition in zip(ours, expected, strict=True):
        assert value.dtype == torch.float32 and value.shape == definition.shape
        assert (value - definition).abs().max() <= tolerance * (1 + definition.abs().max())


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@settings(max_examples=200, deadline=None)
@given(networks(), points())
def test_agrees_with_the_definition_in_float64(network, points):
    # Layer norms of a few features that hardly differ make rounding errors larger, up to 1e-4 for one in many networks.
    assert_as_defined(network, *points, tolerance=2e-3)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(("d_model", "n_heads"), [(1, 1), (2, 1), (3, 3), (6, 2), (16, 4), (30, 5), (32, 4), (64, 8)])
@pytest.mark.parametrize("scale", [True, False])
def test_as_accurate_as_float32_on_the_knots_of_a_vocabulary(d_model, n_heads, scale):
    t = torch.tensor([[0.5], [1.0], [3.0]]) * -torch.linspace(0.5, 20, 129)
    n = (torch.linspace(0, 1, 129) ** 6 * 1e4).repeat(3, 1)
    assert_as_defined(perturbed("SamplingNetwork", {"d_model": d_model, "n_heads": n_heads, "scale": scale}), t, n)


@settings(max_examples=30, deadline=None)
@given(points())
def test_points_that_count_nothing_do_not_influence_the_others(points):
    t, n = points
    network = perturbed("SamplingNetwork", SMALL)
    smooth, scale, threshold = numba_network.smooth_and_truncation(network, t, n)
    moved = numba_network.smooth_and_truncation(network, torch.where(n > 0, t, t - 3), n)
    assert torch.equal(moved[0][n > 0], smooth[n > 0])
    assert torch.equal(moved[1], scale) and torch.equal(moved[2], threshold)


def test_rows_do_not_depend_on_threads_or_batch_mates():
    network = perturbed("SamplingNetwork", SMALL)
    generator = torch.Generator().manual_seed(2)
    t, n = -20 * torch.rand(7, 65, generator=generator), torch.rand(7, 65, generator=generator)
    threads = torch.get_num_threads()
    outputs = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            outputs.append(torch.cat(numba_network.smooth_and_truncation(network, t, n), dim=1))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*outputs)
    # Every other column of a wider tensor: what comes in need not be contiguous.
    alone = numba_network.smooth_and_truncation(network, t[3:4].repeat_interleave(2, 1)[:, ::2], n[3:4])
    assert torch.equal(torch.cat(alone, dim=1), outputs[0][3:4])


def optimizer_step(network):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def behind_the_version_counter(network):
    network.blocks[1].ffn.up_proj.weight.data.mul_(1.5)


def other_storage(network):
    network.truncation_head.down_proj.bias.data = torch.tensor([1.0, 2.0])


def other_parameters(network):
    weights = perturbed("SamplingNetwork", SMALL, seed=1).state_dict()
    network.load_state_dict(weights, assign=True)


def state_dict(network):
    network.load_state_dict(perturbed("SamplingNetwork", SMALL, seed=1).state_dict())


def other_module(network):
    network.blocks[0] = copy.deepcopy(network.blocks[1])


def not_contiguous(network):
    weight = network.blocks[0].attention.o_proj.weight
    weight.data = (2 * weight.data).T
    numba_network.smooth_and_truncation(network, torch.zeros(1, 1), torch.ones(1, 1))
    weight.data.mul_(1.5)


CHANGES = [
    optimizer_step,
    behind_the_version_counter,
    other_storage,
    other_parameters,
    state_dict,
    other_module,
    not_contiguous,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changed_weights_are_noticed(change):
    network = perturbed("SamplingNetwork", SMALL)
    t, n = -torch.linspace(1, 9, 20)[None], torch.ones(1, 20)
    before = torch.cat(numba_network.smooth_and_truncation(network, t, n), dim=1)
    change(network)
    after = torch.cat(numba_network.smooth_and_truncation(network, t, n), dim=1)
    assert (after - before).abs().max() > 1e-3
    assert_as_defined(network, t, n)


def test_networks_are_kept_apart_and_forgotten():
    first, second = (perturbed("SamplingNetwork", SMALL, seed=seed) for seed in (0, 1))
    t, n = -torch.linspace(1, 9, 20)[None], torch.ones(1, 20)
    for network in (first, second, first, copy.deepcopy(first)):
        assert_as_defined(network, t, n)
    forgotten = weakref.ref(second)
    del network, second
    gc.collect()
    assert forgotten() is None


def test_what_is_not_a_number_stays_visible():
    network = perturbed("SamplingNetwork", SMALL)
    network.blocks[0].ffn.gate_proj.weight.data[0, 0] = torch.nan
    outputs = numba_network.smooth_and_truncation(network, -torch.ones(1, 5), torch.ones(1, 5))
    assert all(output.isnan().all() for output in outputs)


class Reached(Exception):
    pass


def unreachable(*_):
    raise Reached


def test_samplers_use_it_where_they_can(monkeypatch):
    monkeypatch.setattr(numba_network, "smooth_and_truncation", unreachable)
    monkeypatch.setattr(numba_decoding, "draw", unreachable)
    monkeypatch.setattr(numba_decoding, "spread", unreachable)
    logits = zipf_logits(2, 100)
    network = perturbed("SamplingNetwork", SMALL)
    for call in (network.logits, network.sample):
        with pytest.raises(Reached):
            call(logits)
    # Elsewhere the definition is used: on every token, in training, in another precision, in another architecture.
    network.logits(logits, exact=True)
    network(logits, torch.ones_like(logits)).sum().backward()
    copy.deepcopy(network).double().logits(logits)
    perturbed("LocalProbabilityTransform", {"hidden_dims": 24}).logits(logits)


def test_a_definition_put_in_place_of_the_networks_is_used(monkeypatch):
    network = perturbed("SamplingNetwork", SMALL)
    monkeypatch.setattr(network, "smooth_and_truncation", unreachable)
    with pytest.raises(Reached):
        network.logits(zipf_logits(2, 100))


@torch.no_grad()
def test_masked_tokens_and_logits_as_without_it(monkeypatch):
    network = perturbed("SamplingNetwork", SMALL)
    logits = zipf_logits(3, 2000)
    logits[:, ::3] = -torch.inf
    ours = network.logits(logits)
    assert torch.equal(ours == -torch.inf, logits == -torch.inf)
    monkeypatch.setattr("adaptive_samplers.samplers.network._compiled_module", lambda name: None)
    assert torch.allclose(ours, network.logits(logits), atol=1e-4, rtol=1e-5)


def test_saving_and_copying_know_nothing_of_it(tmp_path):
    network = perturbed("SamplingNetwork", SMALL)
    names, attributes = set(network.state_dict()), set(vars(network))
    logits = zipf_logits(2, 100)
    output = network.logits(logits)
    assert set(network.state_dict()) == names and set(vars(network)) == attributes
    network.save_pretrained(tmp_path)
    assert torch.equal(AdaptiveSampler.from_pretrained(tmp_path).logits(logits), output)
    assert torch.equal(copy.deepcopy(network).logits(logits), output)
