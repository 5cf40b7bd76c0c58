"""Speed, as ratios: each row times a baseline and ours in turns, in the same process, and reports baseline / ours.

    python bench/run.py                 all rows; writes bench/results.json and prints a table
    python bench/run.py core labels     rows whose names start so

Absolute seconds depend on the machine; ratios much less. The medians of several turns are compared.
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

import torch  # noqa: E402 (after the library's place is known)
from cases import Measured, Row, Work  # noqa: E402

from adaptive_samplers.files import write_json  # noqa: E402
from adaptive_samplers.provenance import versions  # noqa: E402

THREADS = 1
TURNS = 5
AREAS = ("core", "labels", "engine", "serving", "tables")


def measure(work: Work) -> float:
    start = time.perf_counter()
    result = work()
    return result if isinstance(result, Measured) else time.perf_counter() - start


def compare(row: Row, baseline: Work, ours: Work) -> Row:
    """Time both in turns, after a warm-up."""
    ours()
    times = [(measure(baseline), measure(ours)) for _ in range(TURNS)]
    shares = row.pop("divide", (1, 1))
    sides = zip(*times, strict=True)
    slow, quick = (statistics.median(side) / share for side, share in zip(sides, shares, strict=True))
    return {
        **{"batch": None, "vocabulary": None},
        **row,
        "baseline": slow,
        "ours": quick,
        "ratio": slow / quick,
        "threads": THREADS,
        "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": versions("torch", "transformers", "numpy", "numba", "sacrebleu"),
    }


def main(areas: list[str]) -> None:
    if unknown := set(areas) - set(AREAS):
        sys.exit(f"unknown area {unknown.pop()!r}; allowed: {', '.join(AREAS)}")
    torch.set_num_threads(THREADS)
    results = []
    print(f"{'name':<52} {'batch':>5} {'vocabulary':>10} {'ratio':>8}  against")
    for area in areas or AREAS:
        for row, baseline, ours in import_module(f"cases.{area}").cases():
            result = compare(row, baseline, ours)
            results.append(result)
            shown = [str(result[key] or "") for key in ("batch", "vocabulary")]
            print(
                f"{result['name']:<52} {shown[0]:>5} {shown[1]:>10} {result['ratio']:>7.2f}x  {row['against']}",
                flush=True,
            )
    write_json(results, FOLDER / "results.json")
    print(f"written to {FOLDER / 'results.json'}")


if __name__ == "__main__":
    main(sys.argv[1:])
