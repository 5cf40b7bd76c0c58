"""The passes and the network in Triton against plain PyTorch, in Triton's interpreter; which passes serve which device.

Triton decides whether it interprets when it is imported, and this process must stay free to run what it compiles. So
the kernels run in a process of their own.
"""

import copy
import importlib
import logging
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_passes import rows_of_logits, some_function
from test_windows import FIXED, adversarial_rows, assert_sums_are_those_of_float64, assert_windows_change_nothing

from adaptive_samplers.heuristics import window_passes_portable, windows
from adaptive_samplers.samplers import SamplingNetwork, build_sampler, passes
from adaptive_samplers.samplers.passes import passes_for, portable

INTERVALS = 128
few_examples = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def call(payload: bytes) -> bytes:
    """In the other process: call a function with the arguments and give back the result, all of it pickled."""
    function, arguments = pickle.loads(payload)
    return pickle.dumps(function(*arguments))


@contextmanager
def process(variables: dict[str, str]) -> Iterator[Callable[..., Any]]:
    """Calls functions of this module in one other process, which has these environment variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        pool.submit(call, pickle.dumps((int, ()))).result()
    with pool:
        yield lambda function, *arguments: pickle.loads(pool.submit(call, pickle.dumps((function, arguments))).result())


@pytest.fixture(scope="module")
def interpreted() -> Iterator[Callable[..., Any]]:
    with process({"TRITON_INTERPRET": "1"}) as call_there:
        yield call_there


# What runs in the other process.


def in_triton(name: str, *arguments: Any, programs: int = 1024) -> Any:
    from adaptive_samplers.samplers.passes import triton_passes

    triton_passes.PROGRAMS = programs
    return getattr(triton_passes, name)(*arguments)


def with_programs(programs: int, name: str, *arguments: Any) -> Any:
    return in_triton(name, *arguments, programs=programs)


def unchecked(logits: torch.Tensor, uniforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and tokens of a sampler while a graph is captured, when no row can be looked at."""
    from adaptive_samplers.samplers.passes import triton_passes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_passes, "check_rows", lambda largest: None)
        condensed = triton_passes.condense(logits, INTERVALS)
    arguments = (logits, condensed, *some_function(condensed))
    return triton_passes.spread(*arguments), triton_passes.draw(*arguments, uniforms)


def sampler_on_triton_passes(
    architecture: str, config: dict[str, Any], logits: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and tokens of a sampler whose device is served by the passes in Triton."""
    from adaptive_samplers.samplers import base
    from adaptive_samplers.samplers.passes import triton_passes

    sampler = build_sampler(architecture, config, seed=0).eval()
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(base, "passes_for", lambda device: triton_passes)
        return sampler.logits(logits), sampler.sample(logits, torch.Generator().manual_seed(1))


def windows_in_triton(name: str, *arguments: Any) -> Any:
    """A pass for windows; what it writes into, if it gives nothing back."""
    from adaptive_samplers.heuristics import window_passes_triton

    result = getattr(window_passes_triton, name)(*arguments)
    return arguments[4] if name == "divide" else result


def triton_network() -> Any:
    return importlib.import_module(f"{passes.__name__}.triton_network")


def network_in_triton(sampler: SamplingNetwork, t: torch.Tensor, n: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return triton_network().smooth_and_truncation(sampler, t, n)


def compile_kernels(capability: int, logits_type: str, intervals: int) -> dict[str, str]:
    """The kernels' assembly for one generation of devices, by name."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile
    from triton.runtime.jit import JITFunction

    from adaptive_samplers.heuristics import window_passes_triton
    from adaptive_samplers.samplers.passes import triton_passes

    types = {"logits": f"*{logits_type}", "tables": "*i64", "uniforms": "*fp64"}
    types |= {"drawn": "*i64"} | dict.fromkeys(("row_stride", "vocabulary", "blocks"), "i32")
    types |= dict.fromkeys(("scale_stride", "threshold_stride", "points"), "i32")
    types |= dict.fromkeys(("multiplier", "lowest"), "fp32")
    sizes = {"SPLITS": 16, "TABLES": 8, "BLOCKS": 128}
    sizes |= {"WIDTH": intervals, "INTERVALS": intervals, "KNOTS": 2 * intervals}
    sizes |= {"D": 32, "ENCODER": 21, "FFN": 42, "TRANSFORMATION": 21, "HEAD": 10, "HEADS": 4}
    sizes |= {"LAST": False, "SCALE": True, "DIVISIONS": 2, "TILE": 32}
    of_windows = dict.fromkeys(("rows", "places"), "*i64") | dict.fromkeys(("temperatures", "parts"), "*fp64")
    of_windows |= {"logits": "*fp32", "output_stride": "i32"}
    assembly = {}
    everything = {**vars(triton_passes), **vars(triton_network()), **vars(window_passes_triton)}
    for name, kernel in everything.items():
        if isinstance(kernel, JITFunction) and name.endswith("_kernel"):
            known = {**types, **of_windows} if kernel.__module__ == window_passes_triton.__name__ else types
            if name == "_sums_kernel":
                known = {**known, "largest": "*fp64"}
            signature = {
                parameter.name: "constexpr" if parameter.is_constexpr else known.get(parameter.name, "*fp32")
                for parameter in kernel.params
            }
            constants = {key: sizes[key] for key, kind in signature.items() if kind == "constexpr"}
            compiled = compile(ASTSource(kernel, signature, constants), target=GPUTarget("cuda", capability, 32))
            assembly[name] = compiled.asm["ptx"]
    return assembly


# The kernels against the definition.


def function_on_knots(logits: torch.Tensor, intervals: int = INTERVALS) -> tuple[Any, ...]:
    """Arguments of `spread` and `draw`."""
    condensed = portable.condense(logits, intervals)
    return logits, condensed, *some_function(condensed)


def assert_condensed_alike(ours: Any, definition: Any, spread: float) -> None:
    intervals = definition.grid.intervals
    assert torch.allclose(ours.sketch.t, definition.sketch.t, atol=1e-6 * (1 + spread), rtol=1e-6)
    # A position is rounded to a millionth of an interval, and to float32 before.
    assert torch.allclose(ours.sketch.n, definition.sketch.n, atol=1e-6 * intervals * (1 + spread), rtol=1e-5)
    assert torch.allclose(ours.sketch.total_count, definition.sketch.total_count, rtol=1e-6)
    for name in ("largest", "split", "near", "far"):
        assert torch.equal(getattr(ours.grid, name), getattr(definition.grid, name))


@few_examples
@given(rows_of_logits(), st.sampled_from([4, 100, INTERVALS, 1024]))
def test_condensing_agrees_with_the_definition(interpreted, logits, intervals):
    ours = interpreted(in_triton, "condense", logits, intervals)
    spread = logits.abs().masked_fill(logits < -1e30, 0).amax().item()
    assert_condensed_alike(ours, portable.condense(logits, intervals), spread)


@few_examples
@given(rows_of_logits())
def test_spreading_agrees_with_the_definition(interpreted, logits):
    arguments = function_on_knots(logits)
    ours, definition = interpreted(in_triton, "spread", *arguments), portable.spread(*arguments)
    assert torch.equal(ours == -torch.inf, logits < -1e30)
    kept = logits > -1e30
    assert torch.allclose(ours[kept], definition[kept], atol=2e-3, rtol=1e-5)


@few_examples
@given(rows_of_logits(), st.integers(0, 2**20))
def test_draws_invert_the_cumulative_distribution(interpreted, logits, seed):
    arguments = function_on_knots(logits)
    uniforms = torch.rand(len(logits), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    drawn = interpreted(in_triton, "draw", *arguments, uniforms)
    cumulative = portable.spread(*arguments).double().softmax(-1).cumsum(-1)
    assert (logits.gather(1, drawn[:, None]) > -1e30).all()
    upper = cumulative.gather(1, drawn[:, None]).squeeze(1)
    lower = torch.nn.functional.pad(cumulative, (1, 0)).gather(1, drawn[:, None]).squeeze(1)
    assert ((lower - 1e-4 <= uniforms) & (uniforms <= upper + 1e-4)).all()


def test_draws_are_those_of_the_definition(interpreted):
    logits = torch.randn(1, 2500, generator=torch.Generator().manual_seed(0)).expand(150, -1) * 3
    arguments = function_on_knots(logits)
    # Both ends as well, where rounding could lead past the tokens that have a weight.
    uniforms = torch.linspace(0, 1, 150, dtype=torch.float64)
    ours, definition = interpreted(in_triton, "draw", *arguments, uniforms), portable.draw(*arguments, uniforms)
    boundaries = portable.spread(*arguments)[0].double().softmax(-1).cumsum(-1)
    far_from_boundary = (uniforms[:, None] - boundaries).abs().amin(-1) > 1e-6
    assert far_from_boundary.sum() > 140
    assert torch.equal(ours[far_from_boundary], definition[far_from_boundary])
    assert ((ours >= 0) & (ours < 2500)).all()


def test_tokens_without_weight_are_not_drawn(interpreted):
    logits = torch.full((2, 3000), -torch.inf)
    logits[0, 1500], logits[1, 2999] = 1.0, -2.0
    arguments = function_on_knots(logits)
    for uniform in (0.0, 0.5, 1.0):
        drawn = interpreted(in_triton, "draw", *arguments, torch.full((2,), uniform, dtype=torch.float64))
        assert drawn.tolist() == [1500, 2999]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_logits_of_any_type_and_layout(interpreted, dtype):
    """The last of several positions, as a language model gives it: rows that do not lie side by side."""
    generator = torch.Generator().manual_seed(2)
    logits = (torch.randn(3, 2, 1300, generator=generator) * 4).to(dtype)[:, -1]
    logits[0, 7], logits[1, 8] = torch.finfo(dtype).min, -torch.inf
    logits[2] = -60 * torch.rand(1300, generator=generator).to(dtype)
    assert_condensed_alike(
        interpreted(in_triton, "condense", logits, INTERVALS), portable.condense(logits, INTERVALS), spread=60
    )
    uniforms = torch.rand(3, dtype=torch.float64, generator=generator)
    arguments = function_on_knots(logits)
    for rows in (logits, logits.t().contiguous().t()):
        output = interpreted(in_triton, "spread", rows, *arguments[1:])
        assert output.dtype == torch.float32
        assert torch.allclose(output, portable.spread(*arguments), atol=2e-3, rtol=1e-5)
        drawn = interpreted(in_triton, "draw", rows, *arguments[1:], uniforms)
        assert torch.equal(drawn, portable.draw(*arguments, uniforms))


def test_rows_do_not_depend_on_programs_or_batch_mates(interpreted):
    logits = torch.randn(5, 9001, generator=torch.Generator().manual_seed(1)) * 4
    alone, uniforms = logits[3:4], torch.full((5,), 0.37, dtype=torch.float64)
    together = interpreted(with_programs, 5, "condense", logits, INTERVALS)
    for programs in (1, 3, 1024):
        condensed = interpreted(with_programs, programs, "condense", alone, INTERVALS)
        assert torch.equal(condensed.sketch.n, together.sketch.n[3:4])
        assert torch.equal(condensed.sketch.t, together.sketch.t[3:4])
    arguments = function_on_knots(logits)
    drawn = {
        tuple(interpreted(with_programs, programs, "draw", *arguments, uniforms).tolist()) for programs in (1, 15, 1024)
    }
    assert drawn == {tuple(portable.draw(*arguments, uniforms).tolist())}


BAD_ROWS = {
    "nan": [0.0, torch.nan, 1.0],
    "infinity": [0.0, torch.inf, 1.0],
    "all masked": [-torch.inf] * 3,
    "all masked by the lowest number": [torch.finfo(torch.float32).min] * 3,
    "nan among masked": [-torch.inf, torch.nan, -torch.inf],
}


@pytest.mark.parametrize("bad", BAD_ROWS.values(), ids=BAD_ROWS)
def test_what_is_no_distribution_is_refused_or_spoils_its_row(interpreted, bad):
    logits = torch.tensor([[0.0, 1.0, -torch.inf], bad, [1.0, -2.0, 0.0]])
    with pytest.raises(ValueError, match=r"row 1 .*(NaN|masked)"):
        interpreted(in_triton, "condense", logits, INTERVALS)
    uniforms = torch.full((3,), 0.5, dtype=torch.float64)
    output, drawn = interpreted(unchecked, logits, uniforms)
    assert output[1].isnan().all() and drawn[1] == -1
    assert output[[0, 2]].isfinite().sum() == 5 and (drawn[[0, 2]] >= 0).all()


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("LocalProbabilityTransform", {}),
        ("SimpleDistributionAwareTransform", {}),
        ("SamplingNetwork", {"d_model": 16, "d_ff": 24, "n_blocks": 2}),
    ],
)
@torch.no_grad()
def test_samplers_on_triton_passes(interpreted, architecture, config):
    logits = torch.randn(2, 1, 3000, generator=torch.Generator().manual_seed(4)) * 3
    logits[0, 0, :50] = -torch.inf
    output, drawn = interpreted(sampler_on_triton_passes, architecture, config, logits)
    sampler = build_sampler(architecture, config, seed=0).eval()
    assert output.shape == logits.shape and drawn.shape == (2, 1)
    exact = sampler.double().logits(logits.double(), exact=True)
    assert (output.softmax(-1) - exact.softmax(-1)).abs().sum(-1).amax() / 2 < 1e-4
    assert torch.equal(drawn, sampler.float().sample(logits, torch.Generator().manual_seed(1)))


# The network on the knots.


def larger_network(config: dict[str, Any]) -> SamplingNetwork:
    """A network whose weights are larger than at the start of training, so that every part of it matters."""
    network = build_sampler("SamplingNetwork", config, seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return network


def points_and_counts(points: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    t = -30 * torch.rand(3, points, generator=generator).sort(-1).values
    return t, (torch.rand(3, points, generator=generator) * 1000).floor().masked_fill(t < -25, 0)


@pytest.mark.parametrize(
    ("config", "points"),
    [
        ({}, 257),
        ({"d_model": 16, "d_ff": 24, "n_blocks": 3, "n_heads": 2, "scale": False, "multiplier": 1.3133}, 64),
        ({"d_model": 64, "d_ff": 100, "n_blocks": 1, "n_heads": 8}, 7),
    ],
)
@torch.no_grad()
def test_triton_network_agrees_with_the_modules(interpreted, config, points):
    network = larger_network(config)
    t, n = points_and_counts(points)
    expected = copy.deepcopy(network).double().smooth_and_truncation(t.double(), n.double())
    # How float32 is rounded differs by processor: up to 1.04e-6 was seen here, and 1.26e-6 of the modules in float32.
    for module, tolerance in ((network, 3e-6), (copy.deepcopy(network).bfloat16(), 2e-2)):
        for ours, reference in zip(interpreted(network_in_triton, module, t, n), expected, strict=True):
            assert ours.shape == reference.shape and ours.dtype == torch.float32
            assert (ours - reference).abs().amax() < tolerance * (1 + reference.abs().amax())


def test_rows_of_the_triton_network_do_not_depend_on_batch_mates(interpreted):
    network = larger_network({"n_blocks": 2})
    t, n = points_and_counts(129)
    together = interpreted(network_in_triton, network, t, n)
    alone = interpreted(network_in_triton, network, t[1:2], n[1:2])
    assert all(torch.equal(many[1:2], one) for many, one in zip(together, alone, strict=True))


def test_triton_network_refuses_what_matrix_units_do_not_take(interpreted):
    network = build_sampler("SamplingNetwork", {"d_model": 24}, seed=0)
    with pytest.raises(ValueError, match="16, 32 or 64 features"):
        interpreted(network_in_triton, network, *points_and_counts(5))


@pytest.mark.parametrize(("capability", "logits_type", "intervals"), [(90, "bf16", INTERVALS), (80, "fp32", 1024)])
def test_kernels_compile_for_gpus(tmp_path, capability, logits_type, intervals):
    """The interpreter lets pass what the compiler does not. This needs no device."""
    with process({"TRITON_CACHE_DIR": str(tmp_path)}) as call_there:
        kernels = call_there(compile_kernels, capability, logits_type, intervals)
    assert len(kernels) == 14
    # Only integers are added up in an order that may change from run to run.
    atomics = {name: re.findall(r"\b(?:red|atom)\.global\S*", assembly) for name, assembly in kernels.items()}
    assert {kind.split(".", 2)[-1] for kind in atomics.pop("_count_kernel")} == {"gpu.relaxed.add.u64"}
    assert not any(atomics.values())


def constants_unequal_to_themselves() -> list[str]:
    from adaptive_samplers.heuristics import window_passes_triton
    from adaptive_samplers.samplers.passes import triton_passes

    modules = (triton_passes, triton_network(), window_passes_triton)
    constants = [(name, getattr(value, "value", value)) for module in modules for name, value in vars(module).items()]
    return [name for name, value in constants if isinstance(value, float) and value != value]


def test_no_constant_of_a_kernel_is_unequal_to_itself(interpreted):
    """At a kernel's second call, Triton refuses to run it if a global has changed since it was compiled. NaN has.

    Only a device shows that: the interpreter does not look, and here no kernel is called after it is compiled.
    """
    assert not interpreted(constants_unequal_to_themselves)


# The passes for windows.


@pytest.fixture
def triton_windows(interpreted) -> SimpleNamespace:
    """The passes in Triton, which run in the other process."""

    def there(name: str) -> Callable[..., Any]:
        return lambda *arguments: interpreted(windows_in_triton, name, *arguments)

    def divide(*arguments: Any) -> None:
        arguments[4].copy_(there("divide")(*arguments))

    functions = {name: there(name) for name in ("largest", "sums", "moments", "drawing_masses")}
    return SimpleNamespace(**functions, divide=divide)


@pytest.mark.parametrize("vocabulary", [40, 5003])
def test_sums_for_windows_are_those_of_float64(triton_windows, vocabulary):
    # Its exponentials are the nearest float32 numbers, those of PyTorch one of the two nearest.
    assert_sums_are_those_of_float64(triton_windows, vocabulary, rounding=2**-23)


@pytest.mark.parametrize("vocabulary", [2, 130, 3001])
def test_windows_on_triton_passes_change_nothing(triton_windows, monkeypatch, vocabulary):
    monkeypatch.setattr(windows, "passes_for", lambda kind: triton_windows)
    monkeypatch.setattr(windows, "WINDOW_SIZES", (3, 8, 64))
    rows = [row for row in adversarial_rows(vocabulary).values() for _ in range(2)]
    for first in range(0, len(FIXED), len(rows)):
        pipelines = [FIXED[(first + place) % len(FIXED)] for place in range(len(rows))]
        assert_windows_change_nothing(torch.stack(rows), pipelines)


def test_logits_for_windows_need_not_lie_side_by_side(triton_windows):
    logits = torch.randn(4, 2, 1500, generator=torch.Generator().manual_seed(6))
    rows, edges = torch.tensor([3, 0]), torch.tensor([0.5, -0.5])
    temperatures = torch.tensor([[2.0, 0.3], [1.0, 0.7]], dtype=torch.float64)
    for spaced in (logits[:, 1], logits[:, 1].t().contiguous().t()):
        outputs = [torch.zeros(3, 1500) for _ in range(2)]
        for which, output in zip((triton_windows, window_passes_portable), outputs, strict=True):
            which.divide(spaced, rows, edges, temperatures, output, torch.tensor([2, 0]))
        assert torch.equal(*outputs)
        arguments = (spaced, rows, edges, edges.double() + 3, temperatures[:, 0])
        torch.testing.assert_close(
            triton_windows.sums(*arguments), window_passes_portable.sums(*arguments), rtol=1e-13, atol=0
        )


# Which passes serve which device.


@pytest.fixture
def forgotten() -> Iterator[None]:
    """No choice of passes is remembered, from before or for after."""
    passes._passes_for_kind.cache_clear()
    yield
    passes._passes_for_kind.cache_clear()


def test_devices_are_served_by_the_fastest_passes(forgotten, caplog):
    names = {kind: passes_for(torch.device(kind)).__name__.split(".")[-1] for kind in ("cpu", "cuda", "mps")}
    assert names == {"cpu": "numba_passes", "cuda": "triton_passes", "mps": "portable"}
    names = {kind: windows.passes_for(kind).__name__.split(".")[-1] for kind in ("cpu", "cuda", "mps")}
    assert names == {"cpu": "window_passes", "cuda": "window_passes_triton", "mps": "window_passes_portable"}
    assert not caplog.records


@pytest.mark.parametrize(
    ("kind", "module", "package"), [("cpu", "numba_passes", "numba"), ("cuda", "triton_passes", "triton")]
)
def test_without_their_package_it_is_the_portable_ones_and_said_once(
    forgotten, monkeypatch, caplog, kind, module, package
):
    monkeypatch.setitem(sys.modules, package, None)
    for loaded in (f"{passes.__name__}.{module}", "adaptive_samplers.numba_cache"):
        monkeypatch.delitem(sys.modules, loaded, raising=False)
    with caplog.at_level(logging.WARNING):
        assert passes_for(torch.device(kind)) is portable
        assert passes_for(torch.device(kind)) is portable
    [record] = caplog.records
    assert kind in record.getMessage() and f"pip install {package}" in record.getMessage()
