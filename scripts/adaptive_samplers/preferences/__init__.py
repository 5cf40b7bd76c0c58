"""Preference data from answers and their labels: pairs for DPO and its kin, and labels of single answers for KTO's.

`answers` brings answers to one score and says which cannot be used; `pairing`, `rejection` and `feedback` choose pairs
and labels among them; `dataset` does all of it for a run, `formats` writes what trainers read, and `card` describes it.
"""

from adaptive_samplers.preferences.agreement import agreement
from adaptive_samplers.preferences.answers import (
    CANDIDATE_COLUMNS,
    REASONS,
    chosen_heuristics,
    score_column,
    scored_answers,
)
from adaptive_samplers.preferences.card import dataset_card
from adaptive_samplers.preferences.dataset import PAIR_COLUMNS, Outputs, make_preferences, preference_pairs
from adaptive_samplers.preferences.decontamination import contaminated_prompts, evaluation_texts, split_texts
from adaptive_samplers.preferences.feedback import binary_labels
from adaptive_samplers.preferences.formats import FORMATS, file_name, write_format
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
    "dataset_card",
    "evaluation_texts",
    "file_name",
    "make_preferences",
    "pair_answers",
    "preference_pairs",
    "score_column",
    "scored_answers",
    "split_texts",
    "write_format",
]
