"""Make what an iteration's training left a model folder with its provenance: the policy that the next one samples."""

from pathlib import Path

from adaptive_samplers.files import read_json
from adaptive_samplers.policies.update import adopt_policy
from adaptive_samplers.stage import run_stage


def main(snakemake):
    before = Path(snakemake.input.model)
    license_name = read_json(before / "provenance.json")["license"]
    name = f"iteration={snakemake.wildcards.iteration}"
    adopt_policy(Path(snakemake.input.checkpoint), before, license_name, name, Path(snakemake.output[0]))


run_stage(main, snakemake)
