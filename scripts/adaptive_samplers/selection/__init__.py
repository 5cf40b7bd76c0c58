"""Scores and training sets: labels joined once, brought to one scale, and the best answers kept.

`scores` joins and scales (`normalization`), `training_sets` keeps the best by a weighted sum or by Pareto fronts
(`pareto`), and `summary` says what could not be kept and why, and how each heuristic did.
"""

from adaptive_samplers.selection.normalization import METHODS, SCOPES, normalize, z_score
from adaptive_samplers.selection.scores import score_candidates, weighted_score
from adaptive_samplers.selection.summary import (
    REASONS,
    SUMMARIZED,
    filtered_answers,
    filtering_reasons,
    filtering_report,
    marginals,
)
from adaptive_samplers.selection.training_sets import PARETO_WEIGHTS, SCORED, answer_id, select_training_set

__all__ = [
    "METHODS",
    "PARETO_WEIGHTS",
    "REASONS",
    "SCOPES",
    "SCORED",
    "SUMMARIZED",
    "answer_id",
    "filtered_answers",
    "filtering_reasons",
    "filtering_report",
    "marginals",
    "normalize",
    "score_candidates",
    "select_training_set",
    "weighted_score",
    "z_score",
]
