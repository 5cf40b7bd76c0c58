"""Join the labels and bring them to one scale."""

from adaptive_samplers.selection import score_candidates
from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import KEY, read_table, write_table


def main(snakemake):
    settings = settings_of(snakemake).scoring
    measure = settings.diversity_measure
    scores = score_candidates(
        read_table("prompts", snakemake.input.prompts),
        read_table("quality", snakemake.input.quality, [*KEY, "rating"]),
        read_table("diversity", snakemake.input.diversity, [*KEY, measure]),
        read_table("correctness", snakemake.input.correctness, [*KEY, "score"]),
        measure,
        settings.normalization.scope,
        settings.normalization.method,
        settings.kinds.model_dump(),
    )
    write_table("scores", scores, snakemake.output[0])


run_stage(main, snakemake)
