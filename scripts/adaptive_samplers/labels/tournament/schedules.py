"""Who meets whom: all pairs at once, or Swiss rounds. The adaptive schedule is in its own module."""

from typing import Protocol

from adaptive_samplers.labels.tournament.group import Comparison, Group
from adaptive_samplers.labels.tournament.pairing import default_rounds, pair_round


class Schedule(Protocol):
    def next_round(self, group: Group, number: int) -> list[Comparison]:
        """The comparisons of round `number`, counted from 0; none when the group is done."""
        ...


class RoundRobin:
    """All pairs, in one round."""

    def next_round(self, group: Group, number: int) -> list[Comparison]:
        count = 0 if number else len(group.players)
        return [group.ask(one, other) for one in range(count) for other in range(one + 1, count)]


class Swiss:
    """Each round pairs players of similar standing who have not met, if possible.

    Parameters
    ----------
    rounds : None takes `default_rounds`. A group is done earlier when all its pairs have met.
    """

    def __init__(self, rounds: int | None) -> None:
        self.rounds = rounds

    def next_round(self, group: Group, number: int) -> list[Comparison]:
        count = len(group.players)
        rounds = default_rounds(count) if self.rounds is None else self.rounds
        if number >= rounds or not group.pairs_left():
            return []
        # Soft wins minus half the games: the order of summed wins, without penalizing a bye or a failed call.
        wins = group.wins()
        standing = (wins - wins.T).sum(axis=1) / 2
        lot = group.random.permutation(count)
        ranked = sorted(range(count), key=lambda player: (-round(standing[player], 12), lot[player]))
        pairs, bye = pair_round(ranked, group.met, group.byes)
        if bye is not None:
            group.byes[bye] += 1
        return [group.ask(one, other) for one, other in pairs]
