"""All groups play in lockstep: each round's comparisons of every group go to the judge in one call.

So a judge can batch them. It says how probable it is that the first answer is better; that probability is kept.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from adaptive_samplers.labels.tournament.adaptive import Adaptive
from adaptive_samplers.labels.tournament.group import Comparison, Group, sum_wins
from adaptive_samplers.labels.tournament.ratings import bradley_terry, without_position
from adaptive_samplers.labels.tournament.schedules import RoundRobin, Schedule, Swiss
from adaptive_samplers.progress import progress

SCHEDULES = ("swiss", "round_robin", "adaptive")
ADAPTIVE = {"comparisons": None, "top": 1, "confidence": 0.95}
SHOWN_GROUPS = 20
COLUMNS = ["prompt_id", "heuristic_id", "seed", "rating", "rating_stderr", "comparisons"]

Compare = Callable[[list[Comparison]], np.ndarray]


def run_tournaments(
    groups: Mapping[tuple[str, int], Sequence[str]],
    compare: Compare,
    schedule: str,
    rounds: int | None,
    regularization: float,
    seed: int,
    correct_position: bool = False,
    adaptive: Mapping[str, Any] | None = None,
) -> tuple[pd.DataFrame, dict]:
    """Let the players of every group meet, and rate them within their group.

    A group's schedule follows from `seed`, the group's key, its players and the outcomes of its comparisons alone:
    neither the order of groups or players nor the presence of other groups changes it. So a judge that remembers what
    it said is asked the same again, and a tournament that was interrupted goes on where it was. Who is shown first is
    balanced, and else drawn by lot.

    Parameters
    ----------
    groups : (prompt_id, seed) -> ids of the heuristics whose answers take part.
    compare : gets the comparisons of a round and returns P(first beats second) for each, or nan where the call failed.
        A failed call is not an outcome: it is left out of the ratings and of `comparisons`, and counted.
    schedule : `swiss`, `round_robin` or `adaptive`; see `Swiss`, `RoundRobin` and `Adaptive`.
    rounds : Swiss rounds; None takes log2(players) rounded up, plus one.
    regularization : choix's alpha, above 0; see `bradley_terry`.
    seed : the run's seed.
    correct_position : remove from every outcome the worth of being shown first in its group; see `without_position`.
    adaptive : `comparisons`, `top` and `confidence` of the adaptive schedule; None takes `ADAPTIVE`.

    Returns
    -------
    ratings : one row per player, sorted by key: `prompt_id, heuristic_id, seed, rating, rating_stderr, comparisons`. A
        player without a single judged comparison has a null rating; the others have mean 0 in their group.
    summary : `groups`, `calls` (asked of the judge), `failed` (of these), `byes`, `most_byes` (of one player),
        `rematches`, `disconnected` (groups whose judged comparisons leave rated players in separate parts:
        regularization alone relates the parts) and `disconnected_groups` (the first of these, with their parts),
        `unrated` (players with a null rating), and `first_preference` (the mean probability given to the answer shown
        first: 0.5 for a judge without position bias; None without judged calls). With `correct_position`,
        `worth_of_first`, the mean over groups in nats; with the adaptive schedule, `settled`, the groups whose top is
        known with the configured confidence (with 0.95 where that is None).

    Raises
    ------
    ValueError
        If the schedule is unknown, the regularization not positive, a player occurs twice in a group, or the judge
        returns something other than a probability or nan per comparison.
    """
    tournaments = Tournaments(schedule, rounds, regularization, seed, correct_position, adaptive)
    return tournaments.play(groups, compare), tournaments.summary()


class Tournaments:
    """Tournaments whose groups come some at a time: what is said of them is of all, and only counts are kept.

    Parameters
    ----------
    schedule, rounds, regularization, seed, correct_position, adaptive : as `run_tournaments` takes them.
    """

    def __init__(
        self,
        schedule: str,
        rounds: int | None,
        regularization: float,
        seed: int,
        correct_position: bool = False,
        adaptive: Mapping[str, Any] | None = None,
    ) -> None:
        if schedule not in SCHEDULES:
            raise ValueError(f"unknown schedule {schedule!r}; expected one of {', '.join(SCHEDULES)}")
        if not regularization > 0:
            raise ValueError(f"regularization must be above 0, not {regularization}: ratings could be infinite")
        settings = {**ADAPTIVE, **(adaptive or {})}
        self._planner: Schedule = {
            "swiss": lambda: Swiss(rounds),
            "round_robin": RoundRobin,
            "adaptive": lambda: Adaptive(**settings, correct_position=correct_position),
        }[schedule]()
        self._regularization = regularization
        self._seed = seed
        self._correct_position = correct_position
        self._counts: Counter[str] = Counter()
        self._most_byes = 0
        self._preference = self._worth = 0.0  # sums, over judged calls and over groups
        self._apart: dict[str, int] = {}

    def play(self, groups: Mapping[tuple[str, int], Sequence[str]], compare: Compare) -> pd.DataFrame:
        """Let these groups play; their ratings, as `run_tournaments` gives them."""
        states = [Group(key, groups[key], self._seed) for key in sorted(groups)]
        # The systems are so small that more than one thread slows them down, and much more on a busy machine. The judge
        # keeps its own threads.
        outcomes = _play(states, self._planner, compare)
        with threadpool_limits(limits=1, user_api="blas"):
            rated = [
                _rate(group, self._regularization, self._correct_position)
                for group in progress(states, description="rating answers", unit="group")
            ]
            if isinstance(self._planner, Adaptive):
                confidence = ADAPTIVE["confidence"] if self._planner.confidence is None else self._planner.confidence
                settled = (self._planner.settled(group) >= confidence for group in states if group.outcomes)
                self._counts["settled"] += sum(settled)
        ratings = pd.DataFrame([row for rows, _ in rated for row in rows], columns=COLUMNS)
        ratings = ratings.sort_values(COLUMNS[:3], ignore_index=True).astype({"comparisons": np.int32})
        self._count(states, outcomes, [worth for _, worth in rated if worth is not None])
        self._counts["unrated"] += int(ratings["rating"].isna().sum())
        return ratings

    def _count(self, states: Sequence[Group], outcomes: np.ndarray, worths: Sequence[float]) -> None:
        judged = outcomes[~np.isnan(outcomes)]
        self._counts["groups"] += len(states)
        self._counts["calls"] += len(outcomes)
        self._counts["judged"] += len(judged)
        self._preference += float(judged.sum())
        self._counts["worths"] += len(worths)
        self._worth += float(np.sum(worths))
        for group in states:
            self._counts["byes"] += int(group.byes.sum())
            self._most_byes = max(self._most_byes, int(group.byes.max(initial=0)))
            self._counts["rematches"] += group.rematches
            if (parts := group.parts()) > 1:
                self._counts["disconnected"] += 1
                if len(self._apart) < SHOWN_GROUPS:
                    self._apart[f"prompt {group.key[0]}, seed {group.key[1]}"] = parts

    def summary(self) -> dict[str, Any]:
        """What is known of all that were played, as `run_tournaments` says it."""
        counts = self._counts
        extra: dict[str, Any] = {}
        if self._correct_position:
            extra["worth_of_first"] = self._worth / counts["worths"] if counts["worths"] else None
        if isinstance(self._planner, Adaptive):
            extra["settled"] = counts["settled"]
        return {
            "groups": counts["groups"],
            "calls": counts["calls"],
            "failed": counts["calls"] - counts["judged"],
            "byes": counts["byes"],
            "most_byes": self._most_byes,
            "rematches": counts["rematches"],
            "disconnected": counts["disconnected"],
            "disconnected_groups": dict(self._apart),
            "unrated": counts["unrated"],
            "first_preference": self._preference / counts["judged"] if counts["judged"] else None,
            **extra,
        }


def _play(states: list[Group], schedule: Schedule, compare: Compare) -> np.ndarray:
    """Play until every group is done; the outcomes of all calls, in the order of the requests."""
    everything, playing, number = [np.empty(0)], states, 0
    while playing:
        with threadpool_limits(limits=1, user_api="blas"):
            batches = [(group, schedule.next_round(group, number)) for group in playing]
        batches = [(group, batch) for group, batch in batches if batch]
        if not batches:
            break
        number += 1
        comparisons = [comparison for _, batch in batches for comparison in batch]
        outcomes = _checked_outcomes(compare(comparisons), len(comparisons), number)
        start = 0
        for group, batch in batches:
            group.record(batch, outcomes[start : start + len(batch)])
            start += len(batch)
        everything.append(outcomes)
        playing = [group for group, _ in batches]
    return np.concatenate(everything)


def _checked_outcomes(outcomes: np.ndarray, expected: int, round_number: int) -> np.ndarray:
    outcomes = np.asarray(outcomes, dtype=np.float64)
    if outcomes.shape != (expected,):
        raise ValueError(f"round {round_number}: the judge returned shape {outcomes.shape} for {expected} comparisons")
    outside = ~np.isnan(outcomes) & ~((outcomes >= 0) & (outcomes <= 1))
    if outside.any():
        raise ValueError(f"round {round_number}: the judge returned {outcomes[outside][0]}, which is no probability")
    return outcomes


def _rate(group: Group, regularization: float, correct_position: bool) -> tuple[list[tuple], float | None]:
    """A row for each player, and the worth of being shown first, if it was requested and can be estimated."""
    count = len(group.players)
    outcomes, worth = group.outcomes, None
    if correct_position and len(outcomes):
        outcomes, worth = without_position(group.first, group.second, outcomes, count)
    wins = sum_wins(group.first, group.second, outcomes, count)
    games = np.rint((wins + wins.T).sum(axis=1)).astype(np.int64)
    rated = games > 0
    values, errors = np.full(count, np.nan), np.full(count, np.nan)
    if rated.any():
        values[rated], errors[rated] = bradley_terry(wins[np.ix_(rated, rated)], regularization)
    prompt_id, group_seed = group.key
    rows = [
        (prompt_id, player, group_seed, value, error, number)
        for player, value, error, number in zip(group.players, values, errors, games, strict=True)
    ]
    return rows, worth
