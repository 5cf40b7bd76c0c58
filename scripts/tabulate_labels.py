"""Write the report's page of the labels."""

from adaptive_samplers.files import read_json
from adaptive_samplers.label_summary import labels_page
from adaptive_samplers.protocol import said_of_plans
from adaptive_samplers.stage import run_stage, settings_of


def main(snakemake):
    settings = settings_of(snakemake)
    labels_page(
        read_json(snakemake.input.summary),
        read_json(snakemake.input.tournaments),
        settings.scoring.diversity_measure,
        {"distributions": snakemake.input.distributions, "correlations": snakemake.input.correlations},
        snakemake.output[0],
        said_of_plans(snakemake.input.get("plan")),
    )


run_stage(main, snakemake)
