"""Samplers outside the range that they were trained on: banned tokens, numbers that no language model means, overflow.

What could end a process with a segmentation fault runs in a process of its own, so that the test fails and not pytest.
"""

import importlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from test_samplers import CONFIGS, every_config, perturbed
from test_sketch import zipf_logits
from test_triton_passes import process

from adaptive_samplers.errors import UserError
from adaptive_samplers.samplers import AdaptiveSampler, build_sampler
from adaptive_samplers.samplers.base import DEFAULT_LOWEST_LOG_PROB
from adaptive_samplers.samplers.passes import numba_passes, portable
from support import REPOSITORY

LARGEST = torch.finfo(torch.float32).max
BANS = [-60.0, -100.0, -1e4, -65504.0, -1e7, -1e9, torch.finfo(torch.bfloat16).min, -LARGEST]
NAMES = [
    f"{architecture}, {kind}"
    for architecture in ("LocalProbabilityTransform", "SimpleDistributionAwareTransform", "SamplingNetwork")
    for kind in ("trained on {'typical': 0.9}", "lowest -8", "weights times 1000")
]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Callable[..., Any]]:
    with process({}) as call_there:
        yield call_there


@pytest.fixture(scope="module")
def interpreted() -> Iterator[Callable[..., Any]]:
    with process({"TRITON_INTERPRET": "1"}) as call_there:
        yield call_there


# What runs in the other process.


def benchmark() -> Any:
    if (folder := str(REPOSITORY / "bench")) not in sys.path:
        sys.path.append(folder)
    torch.set_num_threads(1)
    return importlib.import_module("extremes")


@cache
def sampler_named(name: str) -> AdaptiveSampler:
    return benchmark().samplers(steps=60)[name]()


def exit_status_of_benchmark(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["extremes.py", *arguments])
        return benchmark().main()


def faults_of(name: str, row: torch.Tensor) -> list[str]:
    return benchmark().check(name, sampler_named(name), row)


def faults_of_triton(name: str, row: torch.Tensor) -> list[str]:
    from adaptive_samplers.samplers.passes import triton_passes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark().sampler_base, "passes_for", lambda device: triton_passes)
        return faults_of(name, row)


# Rows of any numbers.


@st.composite
def rows(draw: Callable[..., Any], sizes: list[int]) -> torch.Tensor:
    """A row `[V]`: a few numbers of any kind, repeated with slight differences, some tokens banned."""
    size = draw(st.sampled_from(sizes))
    number = st.one_of(
        st.floats(-30, 30, width=32),
        st.floats(-(2.0**99), 2.0**99, width=32),
        st.sampled_from([0.0, -0.0, 1e-45, 1e-36, -1e-38, 1e-20, 1e6, 1e30, -9e29]),
    )
    values = torch.tensor(draw(st.lists(number, min_size=1, max_size=6)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    row = values[torch.randint(len(values), (size,), generator=generator)]
    row = row * (1 + draw(st.sampled_from([0.0, 1e-6, 0.1])) * torch.rand(size, generator=generator))
    banned = torch.rand(size, generator=generator) < draw(st.sampled_from([0.0, 0.01, 0.5, 0.99]))
    banned[draw(st.integers(0, size - 1))] = False
    ban = draw(st.sampled_from([*BANS, -math.inf]))
    row = torch.where(banned, torch.maximum(row + ban, torch.tensor(-LARGEST)) if ban > -1e30 else ban, row)
    return row.clamp(max=1e30)


REPORTED = torch.tensor([1e-36, 0.0, 0.0, 0.0])
patient = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@patient
@given(st.sampled_from(NAMES), rows([1, 2, 3, 7, 200, 2049, 4100]))
@example(NAMES[0], REPORTED)
@example(NAMES[6], REPORTED)
@example(NAMES[0], torch.cat([zipf_logits(1, 60, seed=3)[0], torch.tensor([-100.0])]))
def test_nothing_crashes_and_no_banned_token_is_raised(elsewhere, name, row):
    assert elsewhere(faults_of, name, row) == []


@settings(patient, max_examples=12)
@given(st.sampled_from(NAMES[:3]), rows([1, 2, 7, 1025]))
@example(NAMES[0], REPORTED)
def test_nothing_crashes_in_the_kernels_for_gpus(interpreted, name, row):
    assert interpreted(faults_of_triton, name, row) == []


def test_the_benchmark_of_extremes_finds_nothing(elsewhere):
    assert elsewhere(exit_status_of_benchmark, "--rows", "4", "--steps", "2", "--largest", "5003") == 0


# The rule below the range.


@every_config
@torch.no_grad()
def test_below_the_range_tokens_keep_their_distances_by_knots_and_by_tokens(architecture, config):
    sampler = perturbed(architecture, config).double()
    sampler.lowest_log_prob = -20.0
    row = zipf_logits(1, 500)[0].double()
    row[[3, 50, 400]] = torch.tensor([-31.0, -45.5, -31.0]).double()
    log_probs = row.log_softmax(-1)
    outputs = [sampler.logits(row, exact=exact).double() for exact in (False, True)]
    for output in outputs:
        below, inside = log_probs < -20, log_probs >= -20
        assert int(below.sum()) == 3
        raised = output - log_probs
        assert torch.allclose(raised[below], raised[3], atol=1e-4)
        assert raised[3] <= raised[inside].amin() + 1e-4
        assert output[below].amax() < output[inside].amin()
    assert torch.allclose(*(output.softmax(-1) for output in outputs), atol=1e-4)


@torch.no_grad()
def test_the_rule_itself():
    """A function that would raise what is improbable; what is raised least is the token at the end of the range."""
    logits = torch.tensor([[0.0, -4.0, -8.0, -12.0, -30.0, -31.0]])
    for passes in (numba_passes, portable):
        condensed = passes.condense(logits, 2048, lowest=-10.0)
        assert condensed.floor.item() == pytest.approx(10 - logits.exp().sum().log().item(), abs=1e-5)
        # Two nats a nat steeper than the raw logits: 20 nats less at the end of the range.
        function = (3 * condensed.sketch.t, torch.ones(1, 1), torch.full((1, 1), 1000.0))
        output = passes.spread(logits, condensed, *function)[0]
        log_probs = logits.log_softmax(-1)[0]
        expected = torch.where(log_probs >= -10, 3 * log_probs, log_probs - 20)
        assert torch.allclose(output, expected + (output[0] - expected[0]), atol=1e-3)
        # And a function that turns the order around: the first token is raised least.
        function = (-condensed.sketch.t, torch.ones(1, 1), torch.full((1, 1), 1000.0))
        output = passes.spread(logits, condensed, *function)[0]
        assert torch.allclose(output[:3], -log_probs[:3], atol=1e-3)
        assert torch.allclose(output[3:], log_probs[3:] - 2 * log_probs[0], atol=1e-3)


@every_config
@torch.no_grad()
def test_many_tokens_banned_by_a_number_are_as_good_as_masked(architecture, config):
    sampler = perturbed(architecture, config)
    logits = zipf_logits(2, 3000)
    banned = torch.rand(3000, generator=torch.Generator().manual_seed(0)) < 0.95
    masked = logits.masked_fill(banned, -torch.inf)
    for ban in (-1e4, -65504.0, -1e9, -LARGEST):
        for exact, tolerance in ((True, 1e-6), (False, 1e-4)):
            by_number = sampler.logits(logits.masked_fill(banned, ban), exact=exact).softmax(-1)
            assert torch.allclose(by_number, sampler.logits(masked, exact=exact).softmax(-1), atol=tolerance)
            assert (by_number[:, banned] == 0).all()


@torch.no_grad()
def test_a_row_that_lies_below_the_range_as_a_whole_keeps_its_logits():
    sampler = perturbed(*CONFIGS[3])
    sampler.lowest_log_prob = -2.0
    logits = zipf_logits(1, 4000) / 10
    assert logits.log_softmax(-1).max() < -2
    for exact in (False, True):
        assert torch.allclose(sampler.logits(logits, exact=exact).softmax(-1), logits.softmax(-1), rtol=1e-4)


@every_config
@pytest.mark.parametrize("factor", [1e12, 1e30])
@torch.no_grad()
def test_where_weights_overflow_the_raw_logits_are_sampled_from(architecture, config, factor):
    sampler = perturbed(architecture, config)
    for parameter in sampler.parameters():
        parameter *= factor
    logits = zipf_logits(2, 300)
    for exact in (False, True):
        assert torch.allclose(sampler.logits(logits, exact=exact).softmax(-1), logits.softmax(-1), atol=1e-6)
    assert ((sampler.sample(logits) >= 0) & (sampler.sample(logits) < 300)).all()


@torch.no_grad()
def test_a_function_with_a_peak_between_the_tokens_is_drawn_from(monkeypatch):
    """Weights relative to what the knots reach would all be 0."""
    logits = torch.tensor([[0.0, -30.0, -30.0]])
    for passes in (numba_passes, portable):
        condensed = passes.condense(logits, 2048, lowest=-50.0)
        smooth = condensed.sketch.t.clone()
        smooth[:, 1000] = 900.0
        function = (smooth, torch.ones(1, 1), torch.full((1, 1), 1000.0))
        uniforms = torch.tensor([0.999], dtype=torch.float64)
        assert passes.draw(logits, condensed, *function, uniforms).item() == 0


# What is stored, read and refused.


def test_the_range_is_stored_and_older_samplers_have_a_usual_one(tmp_path):
    sampler = build_sampler(*CONFIGS[0], seed=0)
    assert sampler.lowest_log_prob == DEFAULT_LOWEST_LOG_PROB == -50.0
    sampler.lowest_log_prob = -37.25
    sampler.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["lowest_log_prob"] == -37.25
    assert AdaptiveSampler.from_pretrained(tmp_path).lowest_log_prob == -37.25
    # One of before: without a range, and its weights without a checksum.
    del stored["lowest_log_prob"]
    save_file(sampler.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(stored))
    assert AdaptiveSampler.from_pretrained(tmp_path).lowest_log_prob == -50.0
    assert build_sampler(*CONFIGS[0], seed=0).lowest_log_prob == -50.0
    for wrong in (1.0, -math.inf, math.nan, -1e4, "-5", True, None):
        (tmp_path / "config.json").write_text(json.dumps({**stored, "lowest_log_prob": wrong}))
        with pytest.raises(UserError, match="lowest_log_prob"):
            AdaptiveSampler.from_pretrained(tmp_path)


BAD = {
    "NaN": [0.0, math.nan, 1.0],
    "NaN by its sign": [0.0, -math.nan, 1.0],
    "NaN among masked": [-math.inf, -math.nan, -math.inf],
    "infinity": [0.0, math.inf, 1.0],
    "masked": [-math.inf] * 3,
    "masked by a number": [-LARGEST, -1e31, -math.inf],
}


@pytest.mark.parametrize("bad", BAD)
@torch.no_grad()
def test_what_is_no_distribution_is_refused_by_its_row(bad):
    sampler = build_sampler(*CONFIGS[0], seed=0)
    row = torch.tensor(BAD[bad])
    if "sign" in bad:
        row.view(torch.int32)[1] = -1  # whatever the compiler makes of a minus
    logits = torch.stack([torch.zeros(3), torch.ones(3), row])
    message = "row 2 of the logits " + ("has every token masked" if bad.startswith("masked") else "holds NaN")
    for call in (sampler.logits, sampler.sample, lambda logits: sampler.logits(logits, exact=True)):
        with pytest.raises(ValueError, match=message):
            call(logits)
    with pytest.raises(ValueError, match=message):
        portable.condense(logits, 16)


@pytest.mark.parametrize("logits_type", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("sampler_type", [torch.float32, torch.float64])
@every_config
@torch.no_grad()
def test_logits_and_samplers_of_any_type(architecture, config, sampler_type, logits_type):
    sampler = perturbed(architecture, config).to(sampler_type)
    logits = (zipf_logits(2, 60, seed=3) / 2).to(logits_type)
    expected = perturbed(architecture, config).double().logits(logits.double(), exact=True)
    exact, fast = sampler.logits(logits, exact=True), sampler.logits(logits)
    assert exact.dtype == sampler_type and fast.dtype == torch.float32
    precise = sampler_type == torch.float64 and logits_type == torch.float64
    assert torch.allclose(exact.double(), expected, atol=1e-12 if precise else 1e-4)
    assert torch.allclose(fast.double(), expected, atol=1e-3)
    assert sampler.sample(logits).shape == (2,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_samplers_in_half_precision_are_refused(dtype):
    sampler = build_sampler(*CONFIGS[3], seed=0).to(dtype)
    for call in (sampler.logits, sampler.sample, lambda logits: sampler.logits(logits, exact=True)):
        with pytest.raises(UserError, match=r"take sampler\.float\(\)"):
            call(torch.zeros(1, 5))
