"""Speed of learned samplers on a CUDA device; docs/gpu.md says how to read it.

    python bench/gpu.py                     writes bench/gpu_results.json and prints a table
    python bench/gpu.py --output FILE       writes there
    python bench/gpu.py --batches 1 64      these batches instead of 1, 16 and 64
    python bench/gpu.py --device cpu --vocabulary 3000 --repeats 2 --output FILE
                                            tries the script out where there is no such device: without CUDA graphs and
                                            compiled networks, and what it measures says nothing of a GPU

First the kernels' results are compared with the definition and with the network on every token, on the device and on
the logits that are then timed; if they do not agree, nothing is timed. So are the tokens that heuristics keep and draw
there and in this machine's memory.
"""

import argparse
import copy
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent / "scripts")]

import torch  # noqa: E402 (after the library's place is known)
from cases.core import MANY_CHAINS, pipelines_of, realistic_logits  # noqa: E402
from torch import Tensor  # noqa: E402
from warpers import grouped, row_by_row  # noqa: E402

from adaptive_samplers.engines.drawing import Draws, draw_tokens  # noqa: E402
from adaptive_samplers.files import write_json  # noqa: E402
from adaptive_samplers.heuristics import Pipeline, apply_to_logits  # noqa: E402
from adaptive_samplers.provenance import versions  # noqa: E402
from adaptive_samplers.samplers import AdaptiveSampler, build_sampler  # noqa: E402
from adaptive_samplers.samplers.passes import passes_for, portable  # noqa: E402
from adaptive_samplers.samplers.passes.knots import INTERVALS  # noqa: E402

VOCABULARY = 128_256
BATCHES = (1, 16, 64)
WARM_UPS = 10
REPEATS = 200
# Evaluating the network on every token takes long.
SLOW_REPEATS = 10
# What it holds in memory at once for one row at this vocabulary, generously.
BYTES_A_ROW = 2**29
# Total variation between the distributions that are sampled from; the project's bar for the worst case.
TOLERANCE = 1e-4

Work = Callable[[], Any]
Row = dict[str, Any]


def logits_like_a_language_models(batch: int, vocabulary: int, device: str) -> Tensor:
    """A few likely tokens over a wide bell of unlikely ones, in bfloat16 as models give them."""
    return realistic_logits(batch, vocabulary).to(device=device, dtype=torch.bfloat16)


def total_variation(some: Tensor, other: Tensor) -> float:
    """The largest of the rows' distances between two distributions given by logits `[B, V]`."""
    return ((some.double().softmax(-1) - other.double().softmax(-1)).abs().sum(-1) / 2).amax().item()


@torch.no_grad()
def disagreements(sampler: AdaptiveSampler, plain: AdaptiveSampler, logits: Tensor, passes: Any) -> list[str]:
    """What is wrong with the results of these passes on this device, in words; empty if nothing is.

    They are compared with the definition, and with the same network in plain PyTorch on every token.
    """
    wrong = []
    ours, definition = (module.condense(logits, INTERVALS) for module in (passes, portable))
    for name in ("t", "n"):
        one, other = getattr(ours.sketch, name), getattr(definition.sketch, name)
        if not torch.allclose(one, other, atol=1e-2 if name == "n" else 1e-4, rtol=1e-5):
            wrong.append(f"condensed {name}: differs from the definition by {(one - other).abs().amax().item():.1e}")

    # A temperature and a cut, which truncates much: any function of the log-probability would do.
    scale, threshold = (torch.full((len(logits), 1), value, device=logits.device) for value in (2.0, 18.0))
    arguments = (logits, definition, 0.8 * definition.sketch.t, scale, threshold)
    output = portable.spread(*arguments)
    distance = total_variation(passes.spread(*arguments), output)
    if not distance < TOLERANCE:
        wrong.append(f"output logits: total variation from the definition is {distance:.1e}")

    uniforms = torch.rand(len(logits), dtype=torch.float64, device=logits.device)
    cumulative = torch.nn.functional.pad(output.double().softmax(-1).cumsum(-1), (1, 0))
    drawn = passes.draw(*arguments, uniforms)[:, None].clamp(0, logits.shape[-1] - 1)
    before, after = (cumulative.gather(1, drawn + step).squeeze(1) for step in (0, 1))
    if not ((before - TOLERANCE <= uniforms) & (uniforms <= after + TOLERANCE)).all():
        wrong.append("drawn tokens: not those at which the cumulative distribution passes the uniform number")

    # Float64, as float32 on every token loses more digits than the sketch does; a row at a time, as it is large.
    exact = copy.deepcopy(plain).double()
    distance = max(
        total_variation(sampler.logits(row[None]), exact.logits(row[None].double(), exact=True)) for row in logits[:4]
    )
    if not distance < TOLERANCE:
        wrong.append(f"output logits: total variation from the network on every token is {distance:.1e}")
    return wrong


@torch.no_grad()
def graph_disagreements(sampler: AdaptiveSampler, logits: Tensor) -> list[str]:
    """The same for a CUDA graph that was captured on other logits, and for a row that is no distribution."""
    incoming = logits.flip(-1)
    results = {}
    replay = captured(lambda: results.update(logits=sampler.logits(incoming), tokens=sampler.sample(incoming)))
    wrong = []
    incoming.copy_(logits)
    replay()
    distance = total_variation(results["logits"], sampler.logits(logits))
    if not distance < TOLERANCE:
        wrong.append(f"output logits of a CUDA graph: total variation from those outside is {distance:.1e}")
    incoming[0] = torch.nan
    replay()
    if not (results["logits"][0].isnan().all() and results["tokens"][0] == -1):
        wrong.append("a row of NaN in a CUDA graph: should give NaN logits and token -1")
    return wrong


def heuristic_disagreements(logits: Tensor, pipelines: list[Pipeline]) -> list[str]:
    """What heuristics keep and draw otherwise on this device than on a CPU, in words; empty if nothing."""
    here = logits.cpu()
    wrong = []
    ours, expected = apply_to_logits(logits, pipelines).cpu(), apply_to_logits(here, pipelines)
    differ = (ours != expected).any(-1).sum().item()
    if differ:
        wrong.append(f"heuristics: the logits of {differ} of {len(here)} rows are not those on a CPU")
    tokens, expected = (drawing(log_probs, pipelines)()[0] for log_probs in (logits, here))
    if tokens != expected:
        wrong.append("heuristics: drawn tokens are not those on a CPU")
    return wrong


def drawing(log_probs: Tensor, pipelines: list[Pipeline]) -> Callable[[], tuple[list[int], list[float]]]:
    """Draw a token for each row, again and again, by windows that have the size that the last draw needed."""
    answers = [Draws.start(pipeline, seed, 1) for seed, pipeline in enumerate(pipelines)]
    rows = range(len(answers))
    return lambda: draw_tokens(log_probs, rows, answers, [0] * len(answers))


def seconds_by_events(work: Work, repeats: int) -> float:
    """The median time on the device of one call, by CUDA events."""
    for _ in range(min(WARM_UPS, repeats)):
        work()
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    for begin, end in events:
        begin.record()
        work()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in events) / 1000


def seconds_by_clock(work: Work, repeats: int) -> float:
    """The median time of one call that is over when it returns."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def captured(work: Work) -> Work:
    """Replay `work` as a CUDA graph. Compiled functions are compiled before it is captured."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


@dataclass(frozen=True)
class Device:
    """What differs between devices.

    Attributes
    ----------
    name : as the rows of results call it.
    seconds : the median time of some calls of a piece of work.
    graphs : whether it has CUDA graphs, for which networks are compiled.
    hardware : what it is.
    free : bytes of memory that are left.
    """

    name: str
    seconds: Callable[[Work, int], float]
    graphs: bool
    hardware: Callable[[], str]
    free: Callable[[], int]


DEVICES = {
    "cuda": Device("gpu", seconds_by_events, True, torch.cuda.get_device_name, lambda: torch.cuda.mem_get_info()[0]),
    "cpu": Device("cpu", seconds_by_clock, False, platform.machine, lambda: 0),
}


def on_every_token(sampler: AdaptiveSampler, logits: Tensor, free: int) -> Work:
    """Evaluate the network on every token of as many rows at once as fit into so many bytes."""
    parts = logits.split(max(1, free // 2 // BYTES_A_ROW))
    return lambda: [sampler.logits(part, exact=True) for part in parts]


def exponential_race(logits: Tensor) -> Tensor:
    """What torch.multinomial does for one draw, without its checks, for which the host would have to wait."""
    probabilities = torch.softmax(logits, -1, dtype=torch.float32)
    return (probabilities / torch.empty_like(probabilities).exponential_()).argmax(-1)


def with_compiled_network(sampler: AdaptiveSampler) -> AdaptiveSampler:
    """The same sampler, whose network on the knots is compiled by PyTorch."""
    compiled = copy.deepcopy(sampler)
    compiled.smooth_and_truncation = torch.compile(compiled.smooth_and_truncation, dynamic=False)
    return compiled


def with_plain_network(sampler: AdaptiveSampler) -> AdaptiveSampler:
    """The same sampler, whose network on the knots runs in PyTorch's kernels and not in the project's own."""
    plain = copy.deepcopy(sampler)
    plain.smooth_and_truncation = partial(type(plain).smooth_and_truncation, plain)
    return plain


def cases(samplers: dict[str, AdaptiveSampler], logits: Tensor, device: Device, repeats: int) -> Iterator[Row]:
    """Rows with baseline and ours in the row's unit, for samplers by what their rows' names end in."""

    def seconds(work: Work) -> float:
        return device.seconds(work, repeats)

    every_token = device.seconds(on_every_token(samplers[""], logits, device.free()), min(SLOW_REPEATS, repeats))
    softmax = seconds(lambda: torch.multinomial(torch.softmax(logits, -1, dtype=torch.float32), 1))
    for suffix, variant in samplers.items():
        for name in ("logits", "sample"):
            ours = seconds(partial(getattr(variant, name), logits))
            row = {"name": f"core/{device.name}_{name}{suffix}", "unit": "seconds a decode step", "ours": ours}
            yield {**row, "against": "the network on every token, eager", "baseline": every_token}
            yield {**row, "against": "torch.softmax and torch.multinomial", "baseline": softmax}

    if not device.graphs:
        return
    incoming = torch.empty_like(logits)
    copying = seconds(captured(lambda: incoming.copy_(logits)))

    def added_by(work: Callable[[Tensor], Any]) -> float:
        """Seconds that a graph takes more than one in which logits are only copied in."""
        return seconds(captured(lambda: work(incoming.copy_(logits)))) - copying

    plain = added_by(exponential_race)
    for suffix, variant in samplers.items():
        for name in ("logits", "sample"):
            added = added_by(getattr(variant, name))
            row = {"name": f"core/{device.name}_graph_{name}{suffix}", "unit": "microseconds added to a decode step"}
            for against, baseline in (
                ("the network on every token, eager", every_token),
                ("torch.softmax and what torch.multinomial does, in a CUDA graph", plain),
            ):
                yield {**row, "against": against, "baseline": baseline * 1e6, "ours": added * 1e6}


def heuristic_cases(
    logits: Tensor, pipelines: list[Pipeline], model: Work | None, device: Device, repeats: int
) -> Iterator[Row]:
    """Rows of heuristics, each row of the logits its own, against Hugging Face's warpers and a language model."""
    row = {"name": f"core/{device.name}_many_heuristics", "unit": "seconds a decode step"}
    row["ours"] = device.seconds(lambda: apply_to_logits(logits, pipelines), repeats)
    for against, work in (
        ("Hugging Face's warpers, a call a row", row_by_row(logits, pipelines)),
        ("Hugging Face's warpers, a call a heuristic", grouped(logits, pipelines)),
    ):
        yield {**row, "against": against, "baseline": device.seconds(work, repeats)}
    if model:
        draw = drawing(logits.log_softmax(-1), pipelines)
        row = {"name": f"core/{device.name}_draw_tokens", "unit": "seconds a decode step"}
        against = "the model's own step, 135 million parameters and this vocabulary, eager float32"
        yield {
            **row,
            "against": against,
            "baseline": device.seconds(model, repeats),
            "ours": device.seconds(draw, repeats),
        }


def decode_step(batch: int, vocabulary: int, device: str, context: int = 128) -> Work:
    """A step of a language model of SmolLM2-135M's shape, but for its vocabulary, with random weights."""
    from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30}
    heads = {"num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True}
    with torch.device(device):
        model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **shape, **heads)).eval()
        token_ids = torch.zeros(batch, context, dtype=torch.int64)
    cache = DynamicCache()
    model(token_ids, past_key_values=cache, use_cache=True, logits_to_keep=1)

    def step() -> None:
        model(token_ids[:, :1], past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.crop(-1)

    return step


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER / "gpu_results.json")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--device", choices=DEVICES, default="cuda")
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("bench/gpu.py: there is no CUDA device here, so nothing was measured", file=sys.stderr)
        return 2
    sampler = build_sampler("SamplingNetwork", {}, seed=0).eval().to(options.device)
    samplers, passes = {"": sampler}, passes_for(torch.device(options.device))
    if DEVICES[options.device].graphs:
        samplers["_plain_network"] = with_plain_network(sampler)
        samplers["_compiled_network"] = with_compiled_network(sampler)
    return compare_and_measure(samplers, passes, options)


def name_of(passes: ModuleType) -> str:
    """What the rows of results call a module of passes."""
    return passes.__name__.split(".")[-1]


@torch.no_grad()
def compare_and_measure(samplers: dict[str, AdaptiveSampler], passes: ModuleType, options: argparse.Namespace) -> int:
    """Write the rows of all samplers, the plain one of which has the name ""; the script's exit code."""
    device = DEVICES[options.device]
    setting = {
        "threads": torch.get_num_threads(),
        "hardware": device.hardware(),
        "passes": name_of(passes),
        "allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "versions": {**versions("torch", "triton", "numpy"), "cuda": torch.version.cuda},
    }
    results = []
    print(f"{setting['hardware']}, {setting['passes']} passes, TF32 {'on' if setting['allow_tf32'] else 'off'}")
    print(f"{'name':<40} {'batch':>5} {'baseline':>10} {'ours':>10} {'ratio':>9}  against")
    for batch in options.batches:
        logits = logits_like_a_language_models(batch, options.vocabulary, options.device)
        for variant in samplers.values():
            wrong = disagreements(variant, samplers[""], logits, passes)
            wrong += graph_disagreements(variant, logits) if device.graphs else []
            if wrong:
                break
        pipelines = pipelines_of(MANY_CHAINS, batch)
        wrong = wrong or heuristic_disagreements(logits.float(), pipelines)
        if wrong:
            print(f"bench/gpu.py: wrong results at batch {batch}:", *wrong, sep="\n  ", file=sys.stderr)
            return 1
        # On a CPU, `bench/run.py engine` compares with a real model.
        model = decode_step(batch, options.vocabulary, options.device) if device.graphs else None
        few = min(SLOW_REPEATS, options.repeats)
        of_heuristics = heuristic_cases(logits.float(), pipelines, model, device, few)
        for case in chain(cases(samplers, logits, device, options.repeats), of_heuristics):
            row = {
                **case,
                "ratio": case["baseline"] / case["ours"],
                "batch": batch,
                "vocabulary": options.vocabulary,
                **setting,
            }
            results.append(row)
            numbers = f"{row['baseline']:>10.3g} {row['ours']:>10.3g} {row['ratio']:>8.1f}x"
            print(f"{row['name']:<40} {batch:>5} {numbers}  {row['against']} ({row['unit']})", flush=True)
    write_json(results, options.output)
    print(f"written to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
