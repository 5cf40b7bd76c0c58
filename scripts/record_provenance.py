"""Record where a run came from: the whole config, versions, the commit, and the models with hashes and licences."""

from pathlib import Path

from adaptive_samplers.engines.registry import ENGINES
from adaptive_samplers.files import read_json, write_json
from adaptive_samplers.provenance import provenance
from adaptive_samplers.stage import run_stage

PACKAGES = ["sentence-transformers", "numpy", "pandas", "choix", "sacrebleu"]


def main(snakemake):
    models = [read_json(Path(folder) / "provenance.json") for folder in snakemake.input.models]
    packages = ["snakemake", *ENGINES[snakemake.params.config["generation"]["engine"]].packages, *PACKAGES]
    write_json(provenance(snakemake.params.config, *packages, models=models), snakemake.output[0])


run_stage(main, snakemake)
