"""Record where a run came from: config, versions, commit, models with hashes and licences, and the declared plan."""

from pathlib import Path

from adaptive_samplers.engines.registry import ENGINES
from adaptive_samplers.files import read_json, write_json
from adaptive_samplers.provenance import provenance
from adaptive_samplers.stage import run_stage

PACKAGES = ["sentence-transformers", "numpy", "pandas", "choix", "sacrebleu"]


def main(snakemake):
    models = [read_json(Path(folder) / "provenance.json") for folder in snakemake.input.models]
    packages = ["snakemake", *ENGINES[snakemake.params.config["generation"]["engine"]].packages, *PACKAGES]
    declared = read_json(snakemake.input.plan) if snakemake.input.get("plan") else None
    plan = declared and {key: declared[key] for key in ("plan", "plans", "read_before")}
    write_json(provenance(snakemake.params.config, *packages, models=models, plan=plan), snakemake.output[0])


run_stage(main, snakemake)
