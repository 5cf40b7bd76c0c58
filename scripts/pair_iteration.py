"""Make of an iteration's samples and their labels what the policy is trained on."""

from functools import partial
from itertools import chain
from pathlib import Path

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import write_json
from adaptive_samplers.preferences.answers import CANDIDATE_COLUMNS
from adaptive_samplers.preferences.dataset import Outputs, make_preferences
from adaptive_samplers.preferences.decontamination import contaminated_prompts, evaluation_texts, split_texts
from adaptive_samplers.preferences.formats import write_format
from adaptive_samplers.preferences.settings import PreferenceSettings
from adaptive_samplers.stage import run_stage, say, settings_of
from adaptive_samplers.tables import KEY, parts_of_prompts, read_table


def main(snakemake):
    settings, inputs = settings_of(snakemake), snakemake.input
    # All of a prompt's samples meet, as contestants under one seed, and the iteration's prompts are chosen already.
    chosen = PreferenceSettings.from_config(settings.preferences, settings.iteration.splits, group="seed")
    decontamination = settings.preferences.decontamination
    evaluations = chain(
        split_texts(read_table("prompts", inputs.run_prompts), "test") if decontamination.test_split else (),
        *map(evaluation_texts, inputs.evaluations),
    )
    prompts = read_table("prompts", inputs.prompts)
    outputs = Outputs(*(Path(snakemake.output[name]) for name in Outputs._fields))
    try:
        report = make_preferences(
            prompts,
            read_table("heuristics", inputs.heuristics),
            read_table("quality", inputs.quality, [*KEY, "rating", "reward"]),
            read_table("correctness", inputs.correctness, [*KEY, "verifier", "score"]),
            partial(parts_of_prompts, "candidates", inputs.candidates, CANDIDATE_COLUMNS, by_prompt=True),
            contaminated_prompts(prompts, evaluations, decontamination.ngram),
            chosen,
            settings.run.seed,
            outputs,
        )
    except UserError as error:
        number = int(snakemake.wildcards.iteration)
        shorter = f". Where it has too few prompts, let iteration.count be {number - 1}" if number > 1 else ""
        raise UserError(f"iteration {number}: {error}{shorter}") from error
    say(f"{report['pairs']} pairs, {report['labels']}; {report['answers']}; {report['groups_without_pairs']}")
    write_format(settings.iteration.format, outputs.pairs, outputs.answers, snakemake.output.data)
    write_json(report, snakemake.output.report)


run_stage(main, snakemake)
