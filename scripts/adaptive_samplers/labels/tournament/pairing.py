"""The pairs of one Swiss round: players of similar standing, without rematches if possible."""

import math
from collections.abc import Sequence

import networkx
import numpy as np

# Trials of the quick search for a round's pairs; past them, the exact matching takes over.
TRIALS = 1000


def default_rounds(count: int) -> int:
    """Rounds of a Swiss tournament if none are configured: log2(players) rounded up, plus one."""
    return math.ceil(math.log2(count)) + 1 if count > 1 else 0


def pair_round(ranked: Sequence[int], met: np.ndarray, byes: np.ndarray) -> tuple[list[tuple[int, int]], int | None]:
    """Pair the players of one Swiss round.

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
    """Give each player, from the top, the nearest opponent not met yet; backtrack if the rest cannot be paired.

    None if there is no such round, or none was found within `TRIALS`.
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
            if trials > TRIALS:
                return None
            rest = search((*others[:position], *others[position + 1 :]))
            if rest is not None:
                return [(top, opponent), *rest]
        return None

    return search(tuple(ranked))


def _pair_with_fewest_rematches(ranked: Sequence[int], met: np.ndarray) -> list[tuple[int, int]]:
    """The round with the fewest earlier meetings in all, and among such rounds the least distance in rank."""
    count = len(ranked)
    # One more meeting outweighs all squared distances in rank together.
    meeting_cost = count**3
    graph = networkx.Graph()
    for one in range(count):
        for other in range(one + 1, count):
            meetings = int(met[ranked[one], ranked[other]])
            graph.add_edge(one, other, weight=-(meetings * meeting_cost + (other - one) ** 2))
    matching = networkx.max_weight_matching(graph, maxcardinality=True)
    return [(ranked[one], ranked[other]) for one, other in sorted(tuple(sorted(pair)) for pair in matching)]
