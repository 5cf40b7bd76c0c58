"""Preference data from answers and their labels: pairs for DPO and similar methods, single labels for KTO and similar.

`answers` brings answers to one score and says which cannot be used; `pair_selection`, `rejection` and `feedback` choose
pairs and labels among them; `dataset` does this for a whole run, `formats` writes trainers' files, and `card` describes
them.
"""

from importlib import import_module
from typing import Any

# Loaded on first use: rules ask `formats` for file names where the packages that write them may not be installed.
_HOMES = {
    "answers": ("CANDIDATE_COLUMNS", "REASONS", "chosen_heuristics", "score_column", "scored_answers"),
    "card": ("dataset_card",),
    "dataset": ("PAIR_COLUMNS", "Outputs", "make_preferences", "preference_pairs"),
    "decontamination": ("contaminated_prompts", "evaluation_texts", "split_texts"),
    "feedback": ("binary_labels",),
    "formats": ("FORMATS", "exported_files", "file_name", "write_format"),
    "pair_selection": ("PAIRINGS", "pair_answers"),
    "rejection": ("accepted",),
    "settings": ("PreferenceSettings",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
