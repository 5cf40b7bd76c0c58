"""Golden outputs of the stages that make preference data."""

from pathlib import Path

from adaptive_samplers.preferences import (
    FORMATS,
    Outputs,
    PreferenceSettings,
    dataset_card,
    file_name,
    make_preferences,
    write_format,
)
from adaptive_samplers.preferences.decontamination import Overlap
from adaptive_samplers.tables import read_table
from golden.inputs import FEW, PROMPTS, candidates, label_tables

PREFERENCES = [
    PreferenceSettings(splits=("train", "validation", "test")),
    PreferenceSettings(
        splits=("validation", "test"),
        group="prompt",
        correctness="agree",
        pairing="best_random",
        rejection_beta=2.0,
        length_control="ratio",
        length_ratio=4.0,
        threshold="mean",
        threshold_scope="all",
    ),
]


def preferences_of(folder: Path, settings: PreferenceSettings) -> tuple[dict, Outputs]:
    """The report and the files of a small run's preferences."""
    quality, _, correctness = label_tables()
    quality = quality.assign(reward=quality["rating"] + 1)
    correctness = correctness.assign(verifier=correctness["score"].map(lambda score: None if score != score else "x"))
    outputs = Outputs(folder / "pairs.parquet", folder / "answers.parquet", folder / "dropped.jsonl")
    tables = (PROMPTS, FEW, quality, correctness)
    report = make_preferences(*tables, lambda: [candidates()], {"a": Overlap("of a", "e")}, settings, 7, outputs)
    return report, outputs


def golden_preferences(folder: Path):
    results = []
    for settings in PREFERENCES:
        report, outputs = preferences_of(folder, settings)
        tables = [read_table(f"preference_{name}", getattr(outputs, name)) for name in ("pairs", "answers")]
        results += [report, *(table.drop(columns="prompt") for table in tables), outputs.dropped.read_text()]
    return results


def golden_exports(folder: Path):
    _, outputs = preferences_of(folder, PREFERENCES[0])
    texts = []
    for name in FORMATS:
        write_format(name, outputs.pairs, outputs.answers, folder / file_name(name))
        texts.append((folder / file_name(name)).read_text())
    return texts


def golden_card(folder: Path):
    report, outputs = preferences_of(folder, PREFERENCES[1])
    write_format("pairs", outputs.pairs, outputs.answers, folder / "pairs.jsonl")
    model = {"name": "m", "source": {"kind": "hub", "repo": "a/m"}, "model_hash": "f0", "license": "CC0-1.0"}
    judges, origin = [{"kind": "scalar", "name": "m"}], {"versions": {"python": "3"}, "commit": "c"}
    engines = [{"engine": "golden", "versions": None}]
    arguments = (PREFERENCES[1], PROMPTS, FEW, [0, 1, 2], {"answered": model}, judges, engines, origin)
    return dataset_card("golden", None, report, *arguments, [folder / "pairs.jsonl"])
