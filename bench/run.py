"""Speed, as ratios: each row times a baseline and ours in turns, in the same process, and reports baseline / ours.

    python bench/run.py                 all rows; writes bench/results.json and prints a table
    python bench/run.py core labels     rows whose names start so

Absolute seconds depend on the machine; ratios much less. The medians of the turns are compared. A pair is repeated
until the 95 % interval of its ratio is narrower than a tenth of the ratio, but not after two minutes or 400 turns.
The table says where that was too short ("cap"), and which rows are below the bar that they declare.
"""

import os
import platform
import statistics
import sys
import time
from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent / "scripts"))

import numpy as np  # noqa: E402 (after the library's place is known)
import torch  # noqa: E402
from cases import Measured, Row, Work  # noqa: E402

from adaptive_samplers.files import write_json  # noqa: E402
from adaptive_samplers.provenance import versions  # noqa: E402

THREADS = 1
# With fewer, resampled medians are little else than the turns themselves.
FEWEST_TURNS = 6
MOST_TURNS = 400
MOST_SECONDS = 120.0
WIDTH = 0.1  # of the interval, as a part of the ratio
AREAS = ("core", "labels", "engine", "serving", "tables")


def measure(work: Work) -> float:
    start = time.perf_counter()
    result = work()
    return result if isinstance(result, Measured) else time.perf_counter() - start


def ratio_interval(times: list[tuple[float, float]]) -> tuple[float, float]:
    """The 95 % bootstrap interval of the first times' median over the second ones', from pairs of times."""
    pairs = np.array(times)
    drawn = np.random.default_rng(0).integers(0, len(pairs), (1000, len(pairs)))
    medians = np.median(pairs[drawn], axis=1)
    low, high = np.quantile(medians[:, 0] / medians[:, 1], [0.025, 0.975])
    return float(low), float(high)


def in_turns(baseline: Work, ours: Work) -> tuple[list[tuple[float, float]], tuple[float, float], bool]:
    """Times of both, the interval of their ratio, and whether it became narrow enough."""
    times, start = [], time.perf_counter()
    while True:
        # A tenth more each time, as the interval takes as long to compute as many turns.
        for _ in range(max(1, len(times) // 10) if times else FEWEST_TURNS):
            times.append((measure(baseline), measure(ours)))
        low, high = ratio_interval(times)
        if high - low < WIDTH * statistics.median(one for one, _ in times) / statistics.median(two for _, two in times):
            return times, (low, high), True
        if len(times) >= MOST_TURNS or time.perf_counter() - start > MOST_SECONDS:
            return times, (low, high), False


def compare(row: Row, baseline: Work, ours: Work) -> Row:
    """Time both in turns, after a warm-up."""
    ours()
    times, interval, is_narrow = in_turns(baseline, ours)
    shares = row.pop("divide", (1, 1))
    sides = zip(*times, strict=True)
    slow, quick = (statistics.median(side) / share for side, share in zip(sides, shares, strict=True))
    return {
        **{"batch": None, "vocabulary": None, "bar": None},
        **row,
        "baseline": slow,
        "ours": quick,
        "ratio": slow / quick,
        "interval": [bound * shares[1] / shares[0] for bound in interval],
        "turns": len(times),
        "interval_is_narrow": is_narrow,
        "threads": THREADS,
        "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": versions("torch", "transformers", "numpy", "numba", "sacrebleu"),
    }


def is_below_bar(result: Row) -> bool:
    return result["bar"] is not None and result["ratio"] < result["bar"]


def table_line(result: Row) -> str:
    """A row of the table: name, batch, vocabulary, ratio, its interval, turns, bar, and what it is against."""
    batch, vocabulary, bar = (str(result[key] or "") for key in ("batch", "vocabulary", "bar"))
    low, high = (f"{bound:.3g}" for bound in result["interval"])
    turns = f"{result['turns']}{'' if result['interval_is_narrow'] else ' cap'}"
    verdict = f"{bar} below" if is_below_bar(result) else bar
    numbers = f"{result['ratio']:>7.2f}x {f'{low} to {high}':>18} {turns:>8} {verdict:>10}"
    return f"{result['name']:<52} {batch:>5} {vocabulary:>10} {numbers}  {result['against']}"


def main(areas: list[str]) -> None:
    if unknown := set(areas) - set(AREAS):
        sys.exit(f"unknown area {unknown.pop()!r}; allowed: {', '.join(AREAS)}")
    torch.set_num_threads(THREADS)
    results = []
    numbers = f"{'ratio':>8} {'95 % interval':>18} {'turns':>8} {'bar':>10}"
    print(f"{'name':<52} {'batch':>5} {'vocabulary':>10} {numbers}  against")
    for area in areas or AREAS:
        for row, baseline, ours in import_module(f"cases.{area}").cases():
            results.append(compare(row, baseline, ours))
            print(table_line(results[-1]), flush=True)
    write_json(results, FOLDER / "results.json")
    print(f"written to {FOLDER / 'results.json'}")
    below = [result for result in results if is_below_bar(result)]
    with_bar = sum(result["bar"] is not None for result in results)
    print(f"below their bar: {len(below)} of the {with_bar} rows that have one")
    for result in below:
        print(table_line(result))


if __name__ == "__main__":
    main(sys.argv[1:])
