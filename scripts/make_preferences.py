"""Pair and label the answers, and say what was left out."""

from functools import partial
from itertools import chain
from pathlib import Path

from adaptive_samplers.files import write_json
from adaptive_samplers.preferences.answers import CANDIDATE_COLUMNS, chosen_heuristics
from adaptive_samplers.preferences.dataset import Outputs, make_preferences
from adaptive_samplers.preferences.decontamination import contaminated_prompts, evaluation_texts, split_texts
from adaptive_samplers.preferences.settings import PreferenceSettings
from adaptive_samplers.stage import run_stage, say, settings_of
from adaptive_samplers.tables import KEY, parts_of_prompts, read_table


def main(snakemake):
    settings = settings_of(snakemake)
    preferences = settings.preferences
    decontamination = preferences.decontamination
    prompts = read_table("prompts", snakemake.input.prompts)
    evaluations = chain(
        split_texts(prompts, "test") if decontamination.test_split else (),
        *map(evaluation_texts, snakemake.input.evaluations),
    )
    chosen = PreferenceSettings.from_config(preferences, preferences.splits, settings.labels.quality.tournament.group)
    exported = prompts[prompts["split"].isin(chosen.splits)]
    report = make_preferences(
        prompts,
        chosen_heuristics(read_table("heuristics", snakemake.input.heuristics), preferences.heuristics),
        read_table("quality", snakemake.input.quality, [*KEY, "rating", "reward"]),
        read_table("correctness", snakemake.input.correctness, [*KEY, "verifier", "score"]),
        partial(parts_of_prompts, "candidates", snakemake.input.candidates, CANDIDATE_COLUMNS, by_prompt=True),
        contaminated_prompts(exported, evaluations, decontamination.ngram),
        chosen,
        settings.run.seed,
        Outputs(*(Path(snakemake.output[name]) for name in Outputs._fields)),
    )
    say(f"{report['pairs']} pairs, {report['labels']}; {report['answers']}; {report['groups_without_pairs']}")
    write_json(report, snakemake.output.report)


run_stage(main, snakemake)
