"""Compare families of samplers after equal numbers of tries.

    python -m adaptive_samplers.compare results.csv --claim learned --output comparison/

The file has the columns family, configuration, prompt, seed and value (docs/evaluation.md); a folder has sample logs of
lm-evaluation-harness.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from adaptive_samplers.compare.families import Comparison, Settings, compare_families
from adaptive_samplers.compare.pages import sentence
from adaptive_samplers.compare.reading import read_results
from adaptive_samplers.errors import UserError
from adaptive_samplers.files import atomic_output


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m adaptive_samplers.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, help="CSV, TSV, JSON lines or Parquet, or a folder of sample logs")
    parser.add_argument("--objective", action="append", help="one of several; all if not given")
    parser.add_argument("--claim", action="append", default=[], help="a family that is said to be better than others")
    parser.add_argument("--reference", action="append", default=[], help="a family without anything to choose")
    parser.add_argument("--tries", type=int, help="configurations of each family; as many as the smallest family has")
    parser.add_argument("--level", type=float, default=0.05, help="chance of any false finding in an objective")
    parser.add_argument("--power", type=float, default=0.8, help="of finding the smallest detectable difference")
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lower-is-better", action="append", default=[], metavar="OBJECTIVE")
    parser.add_argument("--metric", help="of lm-evaluation-harness, where its logs have several")
    parser.add_argument("--output", type=Path, help="a folder for families.csv, pairs.csv, curves.csv and curves.png")
    options = parser.parse_args(arguments)
    for name, value in (("--level", options.level), ("--power", options.power)):
        if not 0 < value < 1:
            raise UserError(f"{name}: is {value:g}; allowed: a number above 0 and below 1")
    for name, least in (("tries", 1), ("resamples", 100)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name}: is {value}; allowed: a whole number of at least {least}")
    results = read_results(options.results, options.lower_is_better, options.metric)
    if options.objective:
        results = results.only(options.objective)
    own = ("tries", "level", "power", "resamples", "seed")
    settings = Settings(options.claim, options.reference, **{name: getattr(options, name) for name in own})
    found = compare_families(results, settings)
    print(as_text(found))
    if options.output is not None:
        write(found, options.output)
        print(f"written to {options.output}")


def as_text(found: Comparison) -> str:
    """What was found, for a terminal."""
    lines = []
    for objective, rows in found.families.groupby("objective", sort=False):
        lines += [f"{objective}, after {found.tries} tries each", ""]
        shown = rows.sort_values("value", ascending=False)
        lines.append(_table(shown.drop(columns="objective")))
        lines.append("")
        for pair in found.pairs[found.pairs["objective"] == objective].itertuples():
            lines.append(sentence(pair))
        lines.append("")
    every = "in every objective " if found.families["objective"].nunique() > 1 else ""
    for family, holds in found.claims.items():
        verdict = "holds" if holds else "does not hold"
        lines.append(f"The claim that {family} is {every}better than every other family {verdict}.")
    # What is said of several objectives is said once.
    notes: dict[str, list[str]] = {}
    for flag in found.flags:
        objective, _, words = flag.partition(": ")
        notes.setdefault(words, []).append(objective)
    lines += [f"Note: {', '.join(objectives)}: {words}." for words, objectives in notes.items()]
    return "\n".join(lines).strip()


def _table(rows: pd.DataFrame) -> str:
    return rows.to_string(index=False, float_format=lambda value: f"{value:.4g}", na_rep="unknown")


def write(found: Comparison, folder: Path) -> None:
    """The tables as CSV, and the best-of-N curves as a figure."""
    from adaptive_samplers.figures.style import save
    from adaptive_samplers.figures.tries import plot_tries

    folder.mkdir(parents=True, exist_ok=True)
    for name in ("families", "pairs", "curves"):
        with atomic_output(folder / f"{name}.csv") as temporary:
            getattr(found, name).to_csv(temporary, index=False)
    save(plot_tries(found.curves), folder / "curves", ("png", "pdf"))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
