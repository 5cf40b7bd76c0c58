"""Measure coverage, best of n and votes on the test answers of heuristics and learned samplers."""

from adaptive_samplers.repeated_sampling.measure import Samples, fit_power_laws, measure_repeated_sampling
from adaptive_samplers.stage import run_stage, say, settings_of
from adaptive_samplers.tables import read_table, write_table


def main(snakemake):
    settings = settings_of(snakemake)
    tables = [read_table(name, snakemake.input[name]) for name in ("correctness", "quality", "final_answers")]
    heuristics = read_table("heuristics", snakemake.input.heuristics)
    samples = Samples.from_tables(*tables, heuristics, settings.seeds)
    evaluation = settings.evaluation
    say(
        f"{samples.correct.shape[2]} samples of each prompt; verifiable prompts: {samples.verifiable.sum()}, of which "
        f"{samples.votable.sum()} with final answers; left out for a missing verdict: {samples.left_out()} pairs of a "
        "prompt and a sampler"
    )
    measured = measure_repeated_sampling(
        samples,
        heuristics,
        **evaluation.repeated_sampling.model_dump(exclude={"enabled"}),
        resamples=evaluation.resamples,
        interval_confidence=evaluation.confidence,
        seed=settings.run.seed,
    )
    write_table("repeated_sampling", measured, snakemake.output.measured)
    laws = fit_power_laws(samples, heuristics, evaluation.repeated_sampling.k)
    write_table("power_laws", laws, snakemake.output.power_laws)


run_stage(main, snakemake)
