"""Where further answers tell most: heuristics without hope are eliminated, and prompts are given seeds by their worth.

`first_round` reads the labels of the first seeds, `elimination` finds the heuristics that can go, `allocation` divides
what is left of the budget among prompts, and `rounds` joins the reports of both rounds.
"""

from adaptive_samplers.budgets.allocation import allocate_budget, divide, worth_of_seeds
from adaptive_samplers.budgets.elimination import eliminate, standings
from adaptive_samplers.budgets.first_round import FirstRound, read_first_round
from adaptive_samplers.budgets.rounds import asked_places, join_reports

__all__ = [
    "FirstRound",
    "allocate_budget",
    "asked_places",
    "divide",
    "eliminate",
    "join_reports",
    "read_first_round",
    "standings",
    "worth_of_seeds",
]
