"""What each iteration of training did, in one file."""

from pathlib import Path

from adaptive_samplers.files import write_json
from adaptive_samplers.policies.iterations import summarize_iterations
from adaptive_samplers.stage import run_stage


def main(snakemake):
    folders = [Path(path).parent for path in snakemake.input.iterations]
    write_json({"iterations": summarize_iterations(folders)}, snakemake.output[0])


run_stage(main, snakemake)
