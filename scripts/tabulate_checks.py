"""Write what is known of the judge and of the candidates, for the report."""

from adaptive_samplers.files import read_json
from adaptive_samplers.pages import completeness_page, judge_page
from adaptive_samplers.stage import run_stage


def main(snakemake):
    training = read_json(snakemake.input.judge) if snakemake.input.judge else None
    judge_page(read_json(snakemake.input.tournaments), training, snakemake.output.judge)
    reports = {
        "all prompts": read_json(snakemake.input.candidates),
        "test prompts, with learned samplers": read_json(snakemake.input.evaluation),
    }
    completeness_page(reports, snakemake.output.completeness)


run_stage(main, snakemake)
