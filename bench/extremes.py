"""Samplers on logits that no language model means: no crash, no NaN, no banned token above its raw share.

    python bench/extremes.py                    tens of thousands of rows; a quarter of an hour on one core
    python bench/extremes.py --rows 200         a quick look
    python bench/extremes.py --passes portable  the passes in plain PyTorch, or `triton_passes`: in Triton's interpreter

Samplers are trained on heuristics, fresh, and with weights so large that they overflow. Rows have 1 to 262,144 tokens,
of any data type, from 10^-45 to 10^30 wide, as bells, heavy tails, ties and single peaks; tokens are banned by numbers
from -60 to minus infinity. Prints the number of rows by sampler; the first fault ends it with the seed of its row.
"""

import argparse
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent / "scripts"))

import torch  # noqa: E402 (after the library's place is known)
from torch import Tensor  # noqa: E402

from adaptive_samplers.heuristics import apply_on_support, configured_pipeline  # noqa: E402
from adaptive_samplers.logits import MASKED_BELOW  # noqa: E402
from adaptive_samplers.samplers import ARCHITECTURES, AdaptiveSampler, build_sampler  # noqa: E402
from adaptive_samplers.samplers import base as sampler_base  # noqa: E402
from adaptive_samplers.sketch import DistributionSketch  # noqa: E402
from adaptive_samplers.training.objectives.imitation import truncated_logits_loss  # noqa: E402
from adaptive_samplers.training.trainer import TokenSteps, lowest_log_prob  # noqa: E402

SIZES = (1, 2, 3, 4, 5, 7, 50, 100, 1000, 1023, 1024, 1025, 2047, 2048, 2049, 5003, 32_000, 49_152, 128_256, 262_144)
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
BANS = (-60.0, -61.5, -80.0, -100.0, -999.0, -1e3, -1001.0, -1e4, -65504.0, -1e7, -1e9, -1e20, -9.9e29, -1e30, -1e35)
BANS += (torch.finfo(torch.bfloat16).min, torch.finfo(torch.float32).min, -math.inf)
HEURISTICS = ([{"top_p": 0.9}], [{"typical": 0.9}], [{"temperature": 0.5}], [{"temperature": 2.0}])
# On every token a network of this many takes too long, and too much memory.
MOST_ON_EVERY_TOKEN = 5003
FACTORS = (30.0, 1e3, 1e10, 1e30)
RANGES = (-1000.0, -40.0, -8.0, 0.0)


def training_rows(count: int, vocabulary: int = 4000) -> Tensor:
    """Distributions like a language model's: some likely tokens over a wide bell."""
    generator = torch.Generator().manual_seed(0)
    bell = torch.randn(count, vocabulary, generator=generator) * 2.5
    bell[:, :64] += torch.linspace(14, 4, 64)
    return bell * torch.linspace(0.5, 2, count)[:, None]


def trained(architecture: str, heuristic: list[dict], steps: int) -> AdaptiveSampler:
    """A sampler after a short training on a heuristic, with the range that it has seen."""
    sketch = DistributionSketch.from_logits(training_rows(32), 32, 32)
    target = apply_on_support(sketch.t, sketch.n, [configured_pipeline(heuristic)] * len(sketch.t))
    sampler = build_sampler(architecture, {}, seed=0)
    sampler.lowest_log_prob = lowest_log_prob(TokenSteps(sketch.t, sketch.n, target.t, target.n))
    optimizer = torch.optim.AdamW(sampler.parameters(), lr=0.005)
    for _ in range(steps):
        terms = truncated_logits_loss(sampler(sketch.t, sketch.n), target.t, sketch.n, target.n, gamma=1.0)
        optimizer.zero_grad()
        terms.loss.backward()
        torch.nn.utils.clip_grad_norm_(sampler.parameters(), 1.0)
        optimizer.step()
    return sampler.eval()


def fresh(architecture: str, lowest: float = -50.0, factor: float = 1.0) -> AdaptiveSampler:
    """A sampler that was not trained, with weights times a factor and this range."""
    sampler = build_sampler(architecture, {}, seed=1).eval()
    sampler.lowest_log_prob = lowest
    with torch.no_grad():
        for parameter in sampler.parameters():
            parameter *= factor
    return sampler


def samplers(steps: int) -> dict[str, Callable[[], AdaptiveSampler]]:
    """Trained ones, fresh ones with other ranges, and ones whose weights are out of all proportion, by name."""
    made: dict[str, Callable[[], AdaptiveSampler]] = {}
    for name in sorted(ARCHITECTURES):
        made |= {f"{name}, trained on {chain[0]}": partial(trained, name, chain, steps) for chain in HEURISTICS}
        made |= {f"{name}, lowest {lowest:g}": partial(fresh, name, lowest=lowest) for lowest in RANGES}
        made |= {f"{name}, weights times {factor:g}": partial(fresh, name, factor=factor) for factor in FACTORS}
    return made


def row_of_logits(seed: int, largest_size: int) -> Tensor:
    """A row `[V]` of some data type, with at least one token that is not masked."""
    generator = torch.Generator().manual_seed(seed)

    def choose(values: tuple) -> object:
        return values[int(torch.randint(len(values), (), generator=generator))]

    size, kind = choose([size for size in SIZES if size <= largest_size]), choose(("bell", "tail", "ties", "peak"))
    row = torch.randn(size, dtype=torch.float64, generator=generator)
    if kind == "tail":
        row /= torch.rand(size, dtype=torch.float64, generator=generator).clamp(min=1e-4)
    elif kind == "ties":
        row = row.round()
    elif kind == "peak":
        row = torch.zeros_like(row)
        row[0] = choose((1.0, -1.0))
    row *= choose((1.0, 3.0, 5.0, 10.0 ** int(torch.randint(-45, 31, (), generator=generator))))
    row += choose((0.0, 0.0, 20.0, -300.0))
    dtype = choose(DTYPES)
    row = row.to(dtype).float().clamp(-1e30, 1e30)
    if choose((True, True, False)):
        many = choose((1, 1, 3, max(1, size // 2), size - 1))
        places = torch.randperm(size, generator=generator)[:many]
        ban, added = choose(BANS), choose((True, False))
        row[places] = row[places] + ban if added else torch.tensor(ban)
    if not (row > MASKED_BELOW).any():
        row[0] = 0.0
    # Numbers beyond a type's range are infinite in it.
    limits = torch.finfo(dtype)
    return row.clamp(max=min(limits.max, 1e30)).to(dtype)


def total_variation(one: Tensor, other: Tensor) -> float:
    return float((one.double().softmax(-1) - other.double().softmax(-1)).abs().sum() / 2)


def faults(sampler: AdaptiveSampler, row: Tensor, output: Tensor) -> list[str]:
    """What is wrong with the output logits of a row `[V]`, in words; empty if nothing is."""
    masked = row.float() <= MASKED_BELOW
    if not torch.equal(output == -torch.inf, masked) or not output[~masked].isfinite().all():
        return [f"output is not finite: {output[~masked & ~output.isfinite()][:3].tolist()}"]
    raw = row.float().double().masked_fill(masked, -torch.inf).log_softmax(-1)
    got = output.double().log_softmax(-1)
    below = (raw < sampler.lowest_log_prob - 1e-4 * (1 + raw.abs())) & ~masked
    wrong = []
    # Float32 has seven digits.
    slack = 1e-4 + 2e-6 * output[~masked].abs().amax().double()
    if ((got - raw)[below] > slack).any():
        wrong.append(f"a token below the range is raised by {(got - raw)[below].max():g} nats, above {slack:g}")
    # Shares that are 0 in float64 are compared by their logits.
    order = row.float()[below].argsort()
    if (output[below][order].diff() < -slack).any():
        wrong.append("tokens below the range have changed their order")
    inside = ~below & ~masked & (raw >= sampler.lowest_log_prob)
    if below.any() and inside.any() and output[below].amax() > output[inside].amin() + slack:
        wrong.append("a token below the range is above one in it")
    return wrong


@torch.no_grad()
def check(name: str, sampler: AdaptiveSampler, row: Tensor) -> list[str]:
    """All that is wrong with a row: output logits by knots and by every token, and draws."""
    output = sampler.logits(row)
    wrong = [f"by knots: {fault}" for fault in faults(sampler, row, output)]
    if len(row) <= MOST_ON_EVERY_TOKEN:
        exact = sampler.logits(row, exact=True)
        wrong += [f"on every token: {fault}" for fault in faults(sampler, row, exact)]
        if "trained" in name and (distance := total_variation(output, exact)) > 1e-3:
            wrong.append(f"knots and tokens differ by {distance:.1e} in total variation")
    log_probs = row.float().double().masked_fill(row.float() <= MASKED_BELOW, -torch.inf).log_softmax(-1)
    drawn = sampler.sample(row.expand(4, -1))
    if not ((drawn >= 0) & (drawn < len(row))).all():
        return [*wrong, f"drawn {drawn.tolist()} of {len(row)} tokens"]
    # A range may begin below what anybody meets in a lifetime.
    least = log_probs[drawn].amin()
    if least < min(sampler.lowest_log_prob, -46.0):
        wrong.append(f"drawn a token of log-probability {least:g}, below the range")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1500, help="rows for each sampler")
    parser.add_argument("--seed", type=int, default=0, help="of the first row")
    parser.add_argument("--steps", type=int, default=300, help="training steps of the trained samplers")
    parser.add_argument("--largest", type=int, default=max(SIZES), help="most tokens of a row")
    parser.add_argument("--passes", choices=["numba_passes", "portable", "triton_passes"], default="numba_passes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    made = samplers(arguments.steps)
    if arguments.passes != "numba_passes":
        if arguments.passes == "triton_passes":
            os.environ["TRITON_INTERPRET"] = "1"
        module = __import__(f"adaptive_samplers.samplers.passes.{arguments.passes}", fromlist=["draw"])
        sampler_base.passes_for = lambda device: module
    counted: Counter[str] = Counter()
    start = time.perf_counter()
    for name, make in made.items():
        sampler = make()
        for seed in range(arguments.seed, arguments.seed + arguments.rows):
            row = row_of_logits(seed, arguments.largest)
            if wrong := check(name, sampler, row):
                print(f"{name}, row of seed {seed}, {len(row)} tokens of {row.dtype}: {'; '.join(wrong)}")
                return 1
            counted[name.split(",")[0]] += 1
    rows = ", ".join(f"{count:,} rows through {name}" for name, count in counted.items())
    print(f"nothing wrong in {rows} ({arguments.passes}, {time.perf_counter() - start:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
