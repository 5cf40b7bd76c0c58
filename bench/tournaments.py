"""What a tournament's schedules find for how many judge calls, against a full round robin in both orders.

    python bench/tournaments.py                 some minutes on one core; prints a table, writes bench/tournaments.json
    python bench/tournaments.py --repeats 1     a quick look

The players are 143 answers to each of 12 prompts, with the rewards that the embedded judge gave them
(bench/recorded_rewards.json); answers with the same text are one player, but in `swiss, both orders, all`. `recorded`
is that judge, which contradicts itself never. The others say of the same answers, in log-odds: the difference of the
rewards times `scale`, plus noise of the pair, of the order in which it is shown, and a constant for the answer shown
first. `orders disagree` is the share of pairs in which the two orders then name different winners: the report of a
run has it for its own judge.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent / "scripts"))

import numpy as np  # noqa: E402 (after the library's place is known)
import pandas as pd  # noqa: E402
from scipy.special import expit  # noqa: E402
from scipy.stats import kendalltau  # noqa: E402

from adaptive_samplers.files import write_json  # noqa: E402
from adaptive_samplers.labels.tournament import Comparison, run_tournaments  # noqa: E402

TIED = 1e-6  # nats; answers with the same text have the same rating up to rounding
CONFIDENCE = 0.95


class Noise(NamedTuple):
    """A judge: nats a unit of reward, and the standard deviations of its noise and its preference for the first."""

    scale: float
    pair: float
    order: float
    first: float


JUDGES = {
    "recorded": Noise(1.0, 0.0, 0.0, 0.0),
    "consistent": Noise(1.0, 0.5, 0.5, 0.5),
    "ordinary": Noise(0.5, 0.7, 0.7, 1.0),
    "noisy": Noise(0.3, 1.0, 1.0, 1.0),
}
SWISS_CALLS = 1278
REGULARIZATIONS = (0.01, 0.0001, 0.000001)

RECORDED = json.loads((FOLDER / "recorded_rewards.json").read_text())

Group = tuple[str, int]


def simulate(noise: Noise, repeats: int) -> dict[Group, np.ndarray]:
    """P(first beats second) of every pair of answers [143, 143], for each prompt and repeat."""
    groups = {}
    for prompt, (rewards, texts) in enumerate(zip(RECORDED["rewards"], RECORDED["texts"], strict=True)):
        for repeat in range(repeats):
            random = np.random.default_rng([prompt, repeat])
            text, count = np.array(texts), max(texts) + 1
            reward = np.zeros(count)
            reward[text] = rewards
            pair = np.triu(random.normal(0, noise.pair, (count, count)), k=1)
            order = random.normal(0, noise.order, (count, count))
            odds = noise.scale * (reward[:, None] - reward[None, :]) + pair - pair.T + order + noise.first
            np.fill_diagonal(odds, 0)  # no judge is asked about two answers with the same text
            groups[f"p{prompt:02d}", repeat] = expit(odds)[np.ix_(text, text)]
    return groups


def judge(groups: dict[Group, np.ndarray], both_orders: bool) -> Callable[[list[Comparison]], np.ndarray]:
    def compare(comparisons: list[Comparison]) -> np.ndarray:
        first = np.array([int(comparison.first) for comparison in comparisons])
        second = np.array([int(comparison.second) for comparison in comparisons])
        tables = [groups[comparison.group] for comparison in comparisons]
        straight = np.array([table[i, j] for table, i, j in zip(tables, first, second, strict=True)])
        if not both_orders:
            return straight
        turned = np.array([table[j, i] for table, i, j in zip(tables, first, second, strict=True)])
        return (straight + 1 - turned) / 2

    return compare


def play(
    groups: dict[Group, np.ndarray], both_orders: bool, one_by_one: bool = False, **settings: Any
) -> tuple[pd.DataFrame, float]:
    """Ratings, and the judge calls of a group, which are twice its comparisons in both orders.

    Answers with the same text are one player, as in the pipeline, unless every answer plays for itself (`one_by_one`).
    """
    settings = {"rounds": None, "seed": 0, "correct_position": not both_orders, **settings}
    player = {group: np.arange(len(table)) if one_by_one else first_with_text(group) for group, table in groups.items()}
    entries = {group: [f"{number:03d}" for number in np.unique(same)] for group, same in player.items()}
    ratings, summary = run_tournaments(entries, judge(groups, both_orders), **settings)
    rating = ratings.set_index(["prompt_id", "seed", "heuristic_id"])["rating"]
    rows = [(*group, answer, f"{same:03d}") for group, numbers in player.items() for answer, same in enumerate(numbers)]
    table = pd.DataFrame(rows, columns=["prompt_id", "seed", "answer", "heuristic_id"])
    table["rating"] = rating.loc[pd.MultiIndex.from_frame(table[rating.index.names])].to_numpy()
    return table, summary["calls"] * (1 + both_orders) / len(groups)


def first_with_text(group: Group) -> np.ndarray:
    """For each answer, the first one with the same text."""
    _, first, same = np.unique(RECORDED["texts"][int(group[0][1:])], return_index=True, return_inverse=True)
    return first[same]


def compare_with(reference: pd.DataFrame, ratings: pd.DataFrame) -> dict[str, float]:
    """Means over groups: Kendall's tau-b; whether the best-rated is the reference's best; and how far below it is."""
    rows = []
    for (_, truth), (_, found) in zip(
        reference.groupby(["prompt_id", "seed"]), ratings.groupby(["prompt_id", "seed"]), strict=True
    ):
        true = (truth["rating"] / TIED).round().to_numpy() * TIED
        short = true.max() - true[found["rating"].to_numpy().argmax()]
        rows.append((kendalltau(true, found["rating"]).statistic, short < 2 * TIED, short))
    tau, best, short = np.mean(rows, axis=0)
    return {"tau": float(tau), "best": float(best), "nats_below_the_best": float(short)}


def schedules() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "swiss, both orders, all", {"both_orders": True, "schedule": "swiss", "one_by_one": True}
    yield "swiss, both orders", {"both_orders": True, "schedule": "swiss"}
    yield "swiss, one order, 4 rounds", {"both_orders": False, "schedule": "swiss", "rounds": 4}
    for divisor in (8, 4, 2, 1):
        budget = {"comparisons": SWISS_CALLS // divisor, "top": 1, "confidence": None}
        yield f"adaptive, 1/{divisor} of the calls", {"both_orders": False, "schedule": "adaptive", "adaptive": budget}
    stopping = {"comparisons": SWISS_CALLS // 2, "top": 1, "confidence": CONFIDENCE}
    yield f"adaptive, until {CONFIDENCE} sure", {"both_orders": False, "schedule": "adaptive", "adaptive": stopping}


def main(repeats: int) -> None:
    results = []
    titles = ["judge", "orders disagree", "schedule", "alpha", "calls", "tau", "best", "below"]
    print("{:<11} {:>15}  {:<28} {:>7} {:>6} {:>6} {:>5} {:>6}".format(*titles))
    for name, noise in JUDGES.items():
        groups = simulate(noise, repeats if name != "recorded" else 1)
        disagreeing = np.mean([((table - 0.5) * (table.T - 0.5) > 0).mean() for table in groups.values()])
        reference, _ = play(groups, True, schedule="round_robin", regularization=min(REGULARIZATIONS))
        for alpha in REGULARIZATIONS:
            for schedule, settings in schedules():
                ratings, calls = play(groups, regularization=alpha, **settings)
                row = {"judge": name, "orders_disagree": float(disagreeing), "schedule": schedule, "alpha": alpha}
                row |= {"calls": calls, **compare_with(reference, ratings), "groups": len(groups)}
                results.append(row)
                print(
                    f"{name:<11} {disagreeing:>15.2f}  {schedule:<28} {alpha:>7g} {calls:>6.0f} {row['tau']:>6.3f} "
                    f"{row['best']:>5.2f} {row['nats_below_the_best']:>6.3f}",
                    flush=True,
                )
    write_json(results, FOLDER / "tournaments.json")
    print(f"written to {FOLDER / 'tournaments.json'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=4, help="simulations of each prompt under each noisy judge")
    main(parser.parse_args().repeats)
