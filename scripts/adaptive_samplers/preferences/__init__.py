"""Preference data from answers and their labels: pairs for DPO and its kin, and labels of single answers for KTO's.

`answers` brings answers to one score and says which cannot be used; `pairing`, `rejection` and `feedback` choose pairs
and labels among them; `dataset` does all of it for a run, and `formats` writes what trainers read.
"""

from adaptive_samplers.preferences.agreement import agreement
from adaptive_samplers.preferences.answers import (
    CANDIDATE_COLUMNS,
    REASONS,
    chosen_heuristics,
    score_column,
    scored_answers,
)
from adaptive_samplers.preferences.dataset import PAIR_COLUMNS, Outputs, make_preferences, preference_pairs
from adaptive_samplers.preferences.decontamination import contaminated_prompts, evaluation_texts
from adaptive_samplers.preferences.feedback import binary_labels
from adaptive_samplers.preferences.formats import FORMATS, write_format
from adaptive_samplers.preferences.pairing import PAIRINGS, pair_answers
from adaptive_samplers.preferences.rejection import accepted
from adaptive_samplers.preferences.settings import PreferenceSettings

__all__ = [
    "CANDIDATE_COLUMNS",
    "FORMATS",
    "PAIRINGS",
    "PAIR_COLUMNS",
    "REASONS",
    "Outputs",
    "PreferenceSettings",
    "accepted",
    "agreement",
    "binary_labels",
    "chosen_heuristics",
    "contaminated_prompts",
    "evaluation_texts",
    "make_preferences",
    "pair_answers",
    "preference_pairs",
    "score_column",
    "scored_answers",
    "write_format",
]
