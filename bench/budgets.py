"""What adaptive budgets gain over the same number of answers spent alike on every prompt, heuristic and seed.

    python bench/budgets.py results/demo        some minutes on one core; prints a table, writes bench/budgets.json
    python bench/budgets.py results/demo --repeats 2

A finished run with many seeds is replayed: its seeds come in a random order, the first of them are labelled, and the
rest of the budget is spent by `generation.adaptive` or alike for all. Nothing is generated; the labels of answers that
were not "generated" yet are hidden. docs/budgets.md tells how to make such a run, and what came of it.

An answer is worth its judge's reward, in standard deviations of those to its prompt; a wrong answer is worth nothing.
Answers to a prompt with the same text count once.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent / "scripts"))

import numpy as np  # noqa: E402 (after the library's place is known)
import pandas as pd  # noqa: E402
import yaml  # noqa: E402

from adaptive_samplers.budgets import (  # noqa: E402
    FirstPhase,
    divide,
    eliminate,
    read_first_phase,
    worth_of_seeds,
)
from adaptive_samplers.config.model.generation import AdaptiveBudgets  # noqa: E402
from adaptive_samplers.files import write_json  # noqa: E402
from adaptive_samplers.grid import Grid  # noqa: E402
from adaptive_samplers.labels.diversity import label_diversity  # noqa: E402
from adaptive_samplers.labels.vectors import read_embeddings  # noqa: E402
from adaptive_samplers.selection import score_candidates  # noqa: E402
from adaptive_samplers.tables import KEY, read_table, write_table  # noqa: E402

TOP = 2  # answers selected for each prompt and seed
BEST = 10  # answers to a prompt that are looked for
RESAMPLES = 2000
MEASURES = {
    "found": f"share of the {BEST} best answers to a prompt that were generated",
    "short": f"how far the mean of the {BEST} best generated answers is below that of the {BEST} best, deviations",
    "selected": f"answers selected for training, {TOP} for each prompt and seed, as a share of those from all seeds",
    "worth": "mean worth of these, deviations",
    "regret": f"how far the {TOP} heuristics that look best for a prompt are below those that are, in mean worth",
}


@dataclass(frozen=True)
class Run:
    """A finished run's training answers, arrays [P, H, S]."""

    prompts: pd.DataFrame
    heuristics: pd.DataFrame
    candidates: pd.DataFrame
    embeddings: pd.DataFrame
    quality: pd.DataFrame
    correctness: pd.DataFrame
    grid: Grid
    worth: np.ndarray  # minus infinity for an answer that could not be selected
    text: np.ndarray  # number of its text

    @classmethod
    def read(cls, folder: Path) -> "Run":
        prompts = read_table("prompts", folder / "prompts.parquet").query("split == 'train'")
        ids = set(prompts["prompt_id"])
        candidates = read_table(
            "candidates", folder / "candidates.parquet", [*KEY, "text", "finish_reason", "error"], ids
        )
        quality = read_table("quality", folder / "labels" / "quality.parquet", None, ids)
        correctness = read_table("correctness", folder / "labels" / "correctness.parquet", None, ids)
        heuristics = read_table("heuristics", folder / "heuristics.parquet").query("family != 'verbalized'")
        candidates = candidates[candidates["heuristic_id"].isin(heuristics["heuristic_id"])]
        grid = Grid.around(candidates)
        table = candidates.merge(quality, on=KEY).merge(correctness, on=KEY, suffixes=("", "_of_verdict"))
        reward = table.groupby("prompt_id")["reward"]
        worth = (table["reward"] - reward.transform("mean")) / reward.transform("std")
        usable = worth.notna() & (table["verifier"].isna() | (table["score"] >= 1))
        arrays = np.full((2, len(grid)), -np.inf)
        arrays[:, grid.places(table)] = worth.where(usable, -np.inf), pd.factorize(table["text"])[0]
        embeddings = read_embeddings(folder / "embeddings.parquet", set(candidates["text"]))
        worth, text = arrays.reshape(2, *grid.shape)
        return cls(prompts, heuristics, candidates, embeddings, quality, correctness, grid, worth, text)


def labels_of(run: Run, seeds: list[int], settings: AdaptiveBudgets, folder: Path) -> FirstPhase:
    """The first phase's labels, made from its answers alone."""
    candidates, quality, correctness = (
        table[table["seed"].isin(seeds)] for table in (run.candidates, run.quality, run.correctness)
    )
    diversity, _ = label_diversity(candidates, run.embeddings)
    scores = score_candidates(run.prompts, quality, diversity, correctness, "embedding_entropy")
    files = folder / "scores.parquet", folder / "quality.parquet"
    write_table("scores", scores, files[0])
    write_table("quality", quality, files[1])
    return read_first_phase(*files, run.prompts, run.heuristics, seeds, settings.weights, correct_only=True)


def spend(first: FirstPhase, settings: AdaptiveBudgets, seeds: int, answers: int, **parts: bool) -> np.ndarray:
    """Which answers a budget buys, bool [P, H, seeds], where seeds are in the order in which they come."""
    prompts, heuristics = len(first.kinds), first.grid.shape[1]
    kept = eliminate(first, settings)[0] if parts["elimination"] else np.ones(heuristics, dtype=bool)
    worth = worth_of_seeds(first, kept, settings.top)["worth"] if parts["worth"] else np.ones(prompts)
    left = answers - prompts * heuristics * settings.first_seeds
    extra = divide(worth, settings.first_seeds, seeds - settings.first_seeds, left // int(kept.sum()))
    order = np.arange(seeds)
    given = order < settings.first_seeds + extra[:, None]
    return given[:, None, :] & (kept[:, None] | (order < settings.first_seeds))


def best_of(worth: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Worth and text of the best answers with different texts, best first."""
    order = np.lexsort((text, -worth))
    order = order[np.isfinite(worth[order])]
    first = np.sort(np.unique(text[order], return_index=True)[1])[:BEST]
    return worth[order][first], text[order][first]


def measure(worth: np.ndarray, text: np.ndarray, bought: np.ndarray) -> dict[str, np.ndarray]:
    """The measures of each prompt [P]; nan for one that no answer of the whole run is good for."""
    rows = []
    for prompt in range(len(worth)):
        values, words, mask = worth[prompt].ravel(), text[prompt].ravel(), bought[prompt].ravel()
        best, best_words = best_of(values, words)
        here, here_words = best_of(values[mask], words[mask])
        groups = np.where(bought[prompt], worth[prompt], -np.inf)
        selected = np.sort(groups, axis=0)[-TOP:]
        of_all = np.isfinite(np.sort(worth[prompt], axis=0)[-TOP:]).sum()
        # Here a wrong answer counts as the worst one to its prompt.
        mean = np.maximum(worth[prompt], values[np.isfinite(values)].min(initial=np.inf))
        if not len(best):
            rows.append([np.nan] * len(MEASURES))
            continue
        # Where fewer answers were found than there are, the worst that was found stands for those.
        filled = np.concatenate([here, np.full(len(best) - len(here), here.min() if len(here) else values.min())])
        finite = selected[np.isfinite(selected)]
        rows.append(
            [
                np.isin(best_words, here_words).mean(),
                (best - filled).mean() if len(here) else np.nan,
                len(finite) / of_all,
                finite.mean() if len(finite) else np.nan,
                regret_of(mean, bought[prompt]),
            ]
        )
    return dict(zip(MEASURES, np.array(rows).T, strict=True))


def regret_of(worth: np.ndarray, bought: np.ndarray) -> float:
    """What is lost by taking the heuristics whose bought answers [H, S] are best on average."""
    truth = worth.mean(axis=1)
    seen = np.where(bought, worth, 0).sum(axis=1) / bought.sum(axis=1)
    return float(np.sort(truth)[-TOP:].mean() - truth[np.argsort(-seen, kind="stable")[:TOP]].mean())


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean over prompts, and the 95 % bootstrap interval."""
    values = values[~np.isnan(values)]
    resampled = np.random.default_rng(0).choice(values, (RESAMPLES, len(values))).mean(axis=1)
    return float(values.mean()), *map(float, np.quantile(resampled, [0.025, 0.975]))


WAYS = {
    "elimination alone": {"elimination": True, "worth": False},
    "worth alone": {"elimination": False, "worth": True},
    "adaptive": {"elimination": True, "worth": True},
}


def main(folder: Path, repeats: int) -> None:
    run = Run.read(folder)
    config = yaml.safe_load((FOLDER.parent / "config" / "config.yaml").read_text())
    adaptive = config["generation"]["adaptive"]
    seeds = run.grid.seeds.to_pylist()
    budgets = [number for number in (3, 4, 6, 8) if number < len(seeds)]
    results = []
    print(
        f"{len(run.prompts)} prompts, {len(run.heuristics)} heuristics, {len(seeds)} seeds; {repeats} orders of seeds"
    )
    for first_seeds, weights in ((2, "both"), (3, "both"), (2, "quality")):
        changed = {"first_seeds": first_seeds, "weights": adaptive["weights"][: 2 if weights == "both" else 1]}
        settings = AdaptiveBudgets(**{**adaptive, **changed})
        found: dict[tuple[int, str], list[dict[str, np.ndarray]]] = {}
        kept = []
        for repeat in range(repeats):
            order = np.random.default_rng(repeat).permutation(len(seeds))
            worth, text = run.worth[..., order], run.text[..., order]
            with TemporaryDirectory() as scratch:
                first = labels_of(run, [seeds[place] for place in order[:first_seeds]], settings, Path(scratch))
            kept.append(int(eliminate(first, settings)[0].sum()))
            for number in (number for number in budgets if number > first_seeds):
                answers = len(run.prompts) * len(run.heuristics) * number
                uniform = np.zeros(worth.shape, dtype=bool)
                uniform[..., :number] = True
                ways = {way: spend(first, settings, len(seeds), answers, **parts) for way, parts in WAYS.items()}
                for way, bought in {"uniform": uniform, **ways}.items():
                    found.setdefault((number, way), []).append(measure(worth, text, bought))
        print(
            f"first seeds {first_seeds}, weights {weights}: {np.mean(kept):.1f} heuristics kept, "
            f"{min(kept)} to {max(kept)}"
        )
        for (number, way), measured in found.items():
            row = {"first_seeds": first_seeds, "weights": weights, "kept": float(np.mean(kept))}
            row |= {"seeds": number, "way": way}
            for name in MEASURES:
                values, alike = (
                    np.nanmean([part[name] for part in parts], axis=0) for parts in (measured, found[number, "uniform"])
                )
                row[name], row[f"{name}_gain"] = float(np.nanmean(values)), interval(values - alike)
            results.append(row)
            shown = "  ".join(
                f"{name} {row[name]:6.3f} ({row[f'{name}_gain'][0]:+.3f}, {row[f'{name}_gain'][1]:+.3f} to "
                f"{row[f'{name}_gain'][2]:+.3f})"
                for name in MEASURES
            )
            print(f"  as {number} seeds, {way:<18} {shown}", flush=True)
    write_json(results, FOLDER / "budgets.json")
    print(f"written to {FOLDER / 'budgets.json'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="folder of a finished run with many seeds")
    parser.add_argument("--repeats", type=int, default=20, help="random orders of the seeds")
    arguments = parser.parse_args()
    main(arguments.results, arguments.repeats)
