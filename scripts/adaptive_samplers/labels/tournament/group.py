"""One group of players: who has met whom, who was shown first, and the judged outcomes so far."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse.csgraph import connected_components

from adaptive_samplers.hashing import content_number


class Comparison(NamedTuple):
    """Is `first` better than `second`? Both are heuristic ids in `group`, a (prompt_id, seed)."""

    group: tuple[str, int]
    first: str
    second: str


class Group:
    """The state from which a schedule draws the next comparisons.

    It follows from the seed, the key, the players and the outcomes recorded so far, and from nothing else.

    Attributes
    ----------
    players : ids, sorted; elsewhere a player is its index in them.
    random : the group's own generator, for lots.
    asked : how many comparisons the judge was asked for.
    met, shown_first : [players, players], how often each pair was asked for, and with whom first.
    first, second, outcomes : the judged comparisons in order, with P(first beats second).
    byes : [players], rounds sat out.
    rematches : comparisons of pairs that had met before.
    """

    def __init__(self, key: tuple[str, int], players: Sequence[str], seed: int) -> None:
        prompt_id, group_seed = key
        self.key = (prompt_id, int(group_seed))
        self.players = sorted(players)
        if len(set(self.players)) != len(self.players):
            raise ValueError(f"group {key}: a player occurs twice")
        self._index = {player: position for position, player in enumerate(self.players)}
        count = len(self.players)
        self.random = np.random.default_rng(content_number([seed, *self.key]))
        self.asked = 0
        # Thousands of groups play at once, and no pair meets more than 10,000 times, the most rounds that there are.
        self.met = np.zeros((count, count), dtype=np.int16)
        self.shown_first = np.zeros((count, count), dtype=np.int16)
        self.first: list[int] = []
        self.second: list[int] = []
        self.outcomes: list[float] = []
        self.byes = np.zeros(count, dtype=np.int64)
        self.rematches = 0

    def ask(self, one: int, other: int) -> Comparison:
        """The player who was first less often goes first: against this opponent, then overall, then by lot."""
        surplus_here = self.shown_first[one, other] - self.shown_first[other, one]
        surplus = self._surplus(one) - self._surplus(other)
        lot = self.random.integers(2) * 2 - 1
        first, second = (one, other) if (surplus_here, surplus, lot) < (0, 0, 0) else (other, one)
        self.rematches += int(self.met[one, other] > 0)
        self.met[one, other] += 1
        self.met[other, one] += 1
        self.shown_first[first, second] += 1
        self.asked += 1
        return Comparison(self.key, self.players[first], self.players[second])

    def _surplus(self, player: int) -> int:
        return int(self.shown_first[player].sum() - self.shown_first[:, player].sum())

    def record(self, comparisons: Sequence[Comparison], outcomes: np.ndarray) -> None:
        """Keep the outcomes; nan is a failed call, and no outcome."""
        for comparison, probability in zip(comparisons, outcomes, strict=True):
            if not np.isnan(probability):
                self.first.append(self._index[comparison.first])
                self.second.append(self._index[comparison.second])
                self.outcomes.append(float(probability))

    def wins(self) -> np.ndarray:
        """[players, players]: wins[i, j] sums P(i beats j)."""
        return sum_wins(self.first, self.second, self.outcomes, len(self.players))

    def pairs_left(self) -> bool:
        """Are there two players who have not met?"""
        return bool((self.met[np.triu_indices(len(self.players), k=1)] == 0).any())

    def parts(self) -> int:
        """How many connected components the judged comparisons form among the players that have any."""
        wins = self.wins()
        games = wins + wins.T
        judged = games.sum(axis=1) > 0
        return int(connected_components(games[np.ix_(judged, judged)] > 0, directed=False)[0])


def sum_wins(first: Sequence[int], second: Sequence[int], outcomes: Sequence[float], count: int) -> np.ndarray:
    """The matrix [count, count] whose element [i, j] sums the probabilities with which i beat j."""
    wins = np.zeros((count, count))
    outcomes = np.asarray(outcomes, dtype=np.float64)
    np.add.at(wins, (first, second), outcomes)
    np.add.at(wins, (second, first), 1 - outcomes)
    return wins
