"""Write what is known of the judge and of the candidates, for the report."""

from adaptive_samplers.files import read_json
from adaptive_samplers.pages import completeness_page, judge_page
from adaptive_samplers.stage import run_stage


def main(snakemake):
    training = dict(zip(snakemake.params.trained, map(read_json, snakemake.input.judges), strict=True))
    tournaments, likelihood = read_json(snakemake.input.tournaments), read_json(snakemake.input.labels)["likelihood"]
    judge_page(tournaments, likelihood, training, snakemake.output.judge)
    reports = {
        "all prompts": read_json(snakemake.input.candidates),
        "test prompts, with learned samplers": read_json(snakemake.input.evaluation),
    }
    completeness_page(reports, snakemake.output.completeness)


run_stage(main, snakemake)
