"""Tournaments between answers to the same prompt, and Bradley-Terry ratings from their soft outcomes.

All groups play in lockstep: each round's comparisons of every group go to the judge in one call, so that a
judge can batch them. A judge says how probable it is that the first answer is better; that probability is
kept as it is.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import choix
import networkx
import numpy as np
import pandas as pd
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, softmax
from threadpoolctl import threadpool_limits

from adaptive_samplers.hashing import content_number
from adaptive_samplers.progress import progress

SCHEDULES = ("swiss", "round_robin")
# Trials of the quick search for a round's pairs; past them, the exact matching takes over.
PAIRING_TRIALS = 1000
FIT_ITERATIONS = 10_000


class Comparison(NamedTuple):
    """Is `first` better than `second`? Both are heuristic ids in `group`, a (prompt_id, seed)."""

    group: tuple[str, int]
    first: str
    second: str


Judge = Callable[[list[Comparison]], np.ndarray]


def default_rounds(player_count: int) -> int:
    """Rounds of a Swiss tournament when none are configured: log2(players) rounded up, and one more."""
    return math.ceil(math.log2(player_count)) + 1 if player_count > 1 else 0


def run_tournaments(
    groups: Mapping[tuple[str, int], Sequence[str]],
    judge: Judge,
    schedule: str,
    rounds: int | None,
    regularization: float,
    seed: int,
) -> tuple[pd.DataFrame, dict]:
    """Let the players of every group meet, and rate them within their group.

    A group's schedule follows from `seed`, the group's key and its players alone: neither the order of groups
    or players nor the presence of other groups changes it. Who is shown first is balanced, and else drawn by
    lot.

    Parameters
    ----------
    groups : (prompt_id, seed) -> ids of the heuristics whose answers take part.
    judge : gets the comparisons of a round and returns P(first beats second) for each, or nan where the call
        failed. A failed call is not an outcome: it is left out of the ratings and of `comparisons`, and
        counted.
    schedule : `swiss` (each round pairs players of like standing who have not met, where that is possible) or
        `round_robin` (all pairs, in one round).
    rounds : Swiss rounds; None takes `default_rounds`. A group stops early when all its pairs have met.
    regularization : choix's alpha, above 0; see `bradley_terry`.
    seed : the run's seed.

    Returns
    -------
    ratings : one row per player, sorted by key: `prompt_id, heuristic_id, seed, rating, rating_stderr,
        comparisons`. A player without a single judged comparison has a null rating; the others have mean 0 in
        their group.
    summary : `groups`, `calls` (asked of the judge), `failed` (of these), `byes`, `rematches`, `disconnected`
        (groups whose judged comparisons leave rated players in separate parts: regularization alone relates
        the parts), `unrated` (players with a null rating), and `first_preference` (the mean probability given
        to the answer shown first: 0.5 for a judge without position bias; None without judged calls).

    Raises
    ------
    ValueError
        If the schedule is unknown, the regularization not positive, a player occurs twice in a group, or the
        judge returns something other than a probability or nan per comparison.

    References
    ----------
    Bradley and Terry (1952); Maystre and Grossglauser (2015), Fast and Accurate Inference of Plackett-Luce
    Models.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}; expected one of {', '.join(SCHEDULES)}")
    if not regularization > 0:
        raise ValueError(f"regularization must be above 0, not {regularization}: ratings could be infinite")
    tournaments = [_Tournament(key, groups[key], seed) for key in sorted(groups)]

    failed, first_probabilities = 0, []
    for number, comparisons_by_tournament in enumerate(_rounds(tournaments, schedule, rounds), start=1):
        comparisons = [comparison for batch in comparisons_by_tournament for comparison in batch]
        outcomes = _checked_outcomes(judge(comparisons), len(comparisons), number)
        start = 0
        for tournament, batch in zip(tournaments, comparisons_by_tournament, strict=True):
            tournament.record(batch, outcomes[start : start + len(batch)])
            start += len(batch)
        failed += int(np.isnan(outcomes).sum())
        first_probabilities.append(outcomes[~np.isnan(outcomes)])

    # The systems are so small that more than one thread makes them slower, and busy neighbours much slower.
    with threadpool_limits(limits=1, user_api="blas"):
        tables = [
            tournament.ratings(regularization)
            for tournament in progress(tournaments, description="rating answers", unit="group")
        ]
    columns = ["prompt_id", "heuristic_id", "seed", "rating", "rating_stderr", "comparisons"]
    ratings = pd.DataFrame([row for table in tables for row in table], columns=columns)
    ratings = ratings.sort_values(columns[:3], ignore_index=True).astype({"comparisons": np.int32})
    judged = np.concatenate(first_probabilities) if first_probabilities else np.empty(0)
    return ratings, {
        "groups": len(tournaments),
        "calls": len(judged) + failed,
        "failed": failed,
        "byes": sum(int(tournament.byes.sum()) for tournament in tournaments),
        "rematches": sum(tournament.rematches for tournament in tournaments),
        "disconnected": sum(tournament.is_disconnected() for tournament in tournaments),
        "unrated": int(ratings["rating"].isna().sum()),
        "first_preference": float(judged.mean()) if len(judged) else None,
    }


def _rounds(tournaments: list["_Tournament"], schedule: str, rounds: int | None) -> Iterator[list[list[Comparison]]]:
    """Yield each round's comparisons, one list per tournament, until no tournament has any left."""
    if schedule == "round_robin":
        batches = [tournament.all_pairs() for tournament in tournaments]
        if any(batches):
            yield batches
        return
    limits = [default_rounds(len(t.players)) if rounds is None else rounds for t in tournaments]
    for number in range(max(limits, default=0)):
        batches = [
            tournament.swiss_round() if number < limit else []
            for tournament, limit in zip(tournaments, limits, strict=True)
        ]
        if not any(batches):
            return
        yield batches


def _checked_outcomes(outcomes: np.ndarray, expected: int, round_number: int) -> np.ndarray:
    outcomes = np.asarray(outcomes, dtype=np.float64)
    if outcomes.shape != (expected,):
        raise ValueError(f"round {round_number}: the judge returned shape {outcomes.shape} for {expected} comparisons")
    outside = ~np.isnan(outcomes) & ~((outcomes >= 0) & (outcomes <= 1))
    if outside.any():
        raise ValueError(f"round {round_number}: the judge returned {outcomes[outside][0]}, which is no probability")
    return outcomes


class _Tournament:
    """One group's players, who has met whom, and the judged outcomes so far."""

    def __init__(self, key: tuple[str, int], players: Sequence[str], seed: int) -> None:
        prompt_id, group_seed = key
        self.key = (prompt_id, int(group_seed))
        self.players = sorted(players)
        if len(set(self.players)) != len(self.players):
            raise ValueError(f"group {key}: a player occurs twice")
        self.index = {player: position for position, player in enumerate(self.players)}
        count = len(self.players)
        self.random = np.random.default_rng(content_number([seed, *self.key]))
        self.met = np.zeros((count, count), dtype=np.int64)  # asked of the judge, in either order
        self.shown_first = np.zeros((count, count), dtype=np.int64)
        self.wins = np.zeros((count, count))  # judged: wins[i, j] sums P(i beats j)
        self.byes = np.zeros(count, dtype=np.int64)
        self.rematches = 0

    def all_pairs(self) -> list[Comparison]:
        count = len(self.players)
        return [self._ask(one, other) for one in range(count) for other in range(one + 1, count)]

    def swiss_round(self) -> list[Comparison]:
        """The next round's comparisons; none when all pairs have met."""
        count = len(self.players)
        if not self._pairs_left():
            return []
        # Soft wins less half the games: the order of summed wins, without punishing a bye or a failed call.
        standing = (self.wins - self.wins.T).sum(axis=1) / 2
        lot = self.random.permutation(count)
        ranked = sorted(range(count), key=lambda player: (-round(standing[player], 12), lot[player]))
        pairs, bye = pair_round(ranked, self.met, self.byes)
        if bye is not None:
            self.byes[bye] += 1
        return [self._ask(one, other) for one, other in pairs]

    def _pairs_left(self) -> bool:
        count = len(self.players)
        return bool((self.met[np.triu_indices(count, k=1)] == 0).any())

    def _ask(self, one: int, other: int) -> Comparison:
        """First goes who was first less often against this opponent, then overall, then by lot."""
        surplus_here = self.shown_first[one, other] - self.shown_first[other, one]
        surplus = self._surplus(one) - self._surplus(other)
        lot = self.random.integers(2) * 2 - 1
        first, second = (one, other) if (surplus_here, surplus, lot) < (0, 0, 0) else (other, one)
        self.rematches += int(self.met[one, other] > 0)
        self.met[one, other] += 1
        self.met[other, one] += 1
        self.shown_first[first, second] += 1
        return Comparison(self.key, self.players[first], self.players[second])

    def _surplus(self, player: int) -> int:
        return int(self.shown_first[player].sum() - self.shown_first[:, player].sum())

    def record(self, comparisons: list[Comparison], outcomes: np.ndarray) -> None:
        for comparison, probability in zip(comparisons, outcomes, strict=True):
            if not np.isnan(probability):
                first, second = self.index[comparison.first], self.index[comparison.second]
                self.wins[first, second] += probability
                self.wins[second, first] += 1 - probability

    @property
    def games(self) -> np.ndarray:
        """How many comparisons of each pair were judged [players, players]."""
        return np.rint(self.wins + self.wins.T).astype(np.int64)

    def is_disconnected(self) -> bool:
        rated = self.games.sum(axis=1) > 0
        parts, _ = connected_components(self.games[np.ix_(rated, rated)], directed=False)
        return parts > 1

    def ratings(self, regularization: float) -> list[tuple]:
        games = self.games.sum(axis=1)
        rated = games > 0
        values = np.full(len(self.players), np.nan)
        errors = np.full(len(self.players), np.nan)
        if rated.any():
            values[rated], errors[rated] = bradley_terry(self.wins[np.ix_(rated, rated)], regularization)
        prompt_id, group_seed = self.key
        return [
            (prompt_id, player, group_seed, value, error, count)
            for player, value, error, count in zip(self.players, values, errors, games, strict=True)
        ]


def pair_round(ranked: Sequence[int], met: np.ndarray, byes: np.ndarray) -> tuple[list[tuple[int, int]], int | None]:
    """Pair the players of one Swiss round: like with like, and nobody twice where that can be avoided.

    Parameters
    ----------
    ranked : players (indices into `met`), best first.
    met : how often each pair has met [players, players].
    byes : how many rounds each player has sat out [players].

    Returns
    -------
    The pairs, and the player who sits out (None if the number of players is even): of those with the fewest
    byes so far, the lowest-ranked whose absence leaves the others a round without rematches.
    """
    if len(ranked) % 2 == 0:
        return _pair_all(ranked, met), None
    fewest = min(byes[player] for player in ranked)
    candidates = [player for player in reversed(ranked) if byes[player] == fewest]
    rounds = []
    for bye in candidates:
        pairs = _pair_all([player for player in ranked if player != bye], met)
        rematches = sum(met[pair] > 0 for pair in pairs)
        if rematches == 0:
            return pairs, bye
        rounds.append((rematches, pairs, bye))
    _, pairs, bye = min(rounds, key=lambda found: found[0])
    return pairs, bye


def _pair_all(ranked: Sequence[int], met: np.ndarray) -> list[tuple[int, int]]:
    pairs = _pair_from_the_top(ranked, met)
    return _pair_with_fewest_rematches(ranked, met) if pairs is None else pairs


def _pair_from_the_top(ranked: Sequence[int], met: np.ndarray) -> list[tuple[int, int]] | None:
    """Give each player, from the top, the nearest opponent not met yet; go back where the rest cannot be paired.

    None if there is no such round, or none was found within `PAIRING_TRIALS`.
    """
    trials = 0

    def search(waiting: tuple[int, ...]) -> list[tuple[int, int]] | None:
        nonlocal trials
        if not waiting:
            return []
        top, *others = waiting
        for position, opponent in enumerate(others):
            if met[top, opponent] > 0:
                continue
            trials += 1
            if trials > PAIRING_TRIALS:
                return None
            rest = search((*others[:position], *others[position + 1 :]))
            if rest is not None:
                return [(top, opponent), *rest]
        return None

    return search(tuple(ranked))


def _pair_with_fewest_rematches(ranked: Sequence[int], met: np.ndarray) -> list[tuple[int, int]]:
    """The round with the fewest earlier meetings in all, and among such rounds the least distance in rank."""
    count = len(ranked)
    # One meeting more weighs more than all squared distances in rank together.
    meeting_cost = count**3
    graph = networkx.Graph()
    for one in range(count):
        for other in range(one + 1, count):
            meetings = int(met[ranked[one], ranked[other]])
            graph.add_edge(one, other, weight=-(meetings * meeting_cost + (other - one) ** 2))
    matching = networkx.max_weight_matching(graph, maxcardinality=True)
    return [(ranked[one], ranked[other]) for one, other in sorted(tuple(sorted(pair)) for pair in matching)]


def bradley_terry(wins: np.ndarray, regularization: float) -> tuple[np.ndarray, np.ndarray]:
    """Bradley-Terry ratings and their standard errors from soft outcomes.

    The ratings are those of choix's iterative Luce spectral ranking with alpha = `regularization`. Its fixed
    point is the maximum of

        sum_ij wins[i, j] log sigmoid(r_i - r_j) + alpha n sum_i log softmax(r)_i

    with n players: as if each player had, beside its comparisons, been chosen alpha n times from among all n.
    The standard errors are the square roots of the diagonal of the pseudo-inverse of this function's negative
    Hessian,

        L + alpha n^2 (diag(s) - s s^T),   s = softmax(r),

    with L the Laplacian of the weights games[i, j] p_ij (1 - p_ij); the pseudo-inverse belongs to ratings
    with mean 0. They are a curvature: how sharply outcomes and regularization together determine a rating,
    for independent comparisons. With few comparisons the regularization supplies much of it, and a judge's
    own mistakes are not in it.

    Parameters
    ----------
    wins : array [n, n]; wins[i, j] sums the probabilities that i beats j.
    regularization : alpha, above 0; keeps ratings finite when a player wins always or groups of players never
        meet.

    Returns
    -------
    ratings, stderr : arrays [n], natural-log scale; the ratings have mean 0.

    References
    ----------
    Maystre and Grossglauser (2015), Fast and Accurate Inference of Plackett-Luce Models.
    """
    count = len(wins)
    ratings = choix.ilsr_pairwise_dense(wins, alpha=regularization, max_iter=FIT_ITERATIONS)
    ratings = ratings - ratings.mean()
    probability = expit(ratings[:, None] - ratings[None, :])
    weights = (wins + wins.T) * probability * (1 - probability)
    laplacian = np.diag(weights.sum(axis=1)) - weights
    share = softmax(ratings)
    curvature = laplacian + regularization * count**2 * (np.diag(share) - np.outer(share, share))
    return ratings, np.sqrt(np.diag(np.linalg.pinv(curvature, hermitian=True)))
