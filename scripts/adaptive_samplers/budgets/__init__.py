"""Where further answers are most informative: poor heuristics are eliminated, and seeds are allocated to prompts.

`first_phase` reads the labels of the first seeds, `elimination` finds the heuristics that can go, `allocation` divides
the rest of the budget among prompts, and `phases` joins the reports of both phases.
"""

from adaptive_samplers.budgets.allocation import allocate_budget, divide, worth_of_seeds
from adaptive_samplers.budgets.elimination import eliminate, standings
from adaptive_samplers.budgets.first_phase import FirstPhase, read_first_phase
from adaptive_samplers.budgets.phases import asked_places, join_reports

__all__ = [
    "FirstPhase",
    "allocate_budget",
    "asked_places",
    "divide",
    "eliminate",
    "join_reports",
    "read_first_phase",
    "standings",
    "worth_of_seeds",
]
