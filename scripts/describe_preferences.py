"""Write the card of the preference data: where it came from, what is in it, and what was left out."""

from pathlib import Path

from adaptive_samplers.files import atomic_output, read_json
from adaptive_samplers.generation import recorded_engines
from adaptive_samplers.preferences.answers import chosen_heuristics
from adaptive_samplers.preferences.card import dataset_card
from adaptive_samplers.preferences.settings import PreferenceSettings
from adaptive_samplers.provenance import provenance
from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import read_table


def main(snakemake):
    settings = settings_of(snakemake)
    preferences = settings.preferences
    uses = [f"judged ({name})" for name in snakemake.params.judges_with_models]
    models = {"answered": snakemake.input.model, **dict(zip(uses, snakemake.input.judges, strict=True))}
    card = dataset_card(
        snakemake.wildcards.run,
        preferences.license,
        read_json(snakemake.input.report),
        PreferenceSettings.from_config(preferences, preferences.splits, settings.labels.quality.tournament.group),
        read_table("prompts", snakemake.input.prompts),
        chosen_heuristics(read_table("heuristics", snakemake.input.heuristics), preferences.heuristics),
        settings.seeds,
        {use: read_json(Path(folder) / "provenance.json") for use, folder in models.items()},
        snakemake.params.judges,
        recorded_engines([Path(shard) for shard in snakemake.input.shards]),
        provenance(None, "pyarrow", "pandas"),
        [Path(file) for file in snakemake.input.files],
    )
    with atomic_output(snakemake.output[0]) as temporary:
        temporary.write_text(card, encoding="utf-8")


run_stage(main, snakemake)
