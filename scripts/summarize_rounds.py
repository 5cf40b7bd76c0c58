"""What each round of training did, in one file."""

from pathlib import Path

from adaptive_samplers.files import write_json
from adaptive_samplers.policies.rounds import summarize_rounds
from adaptive_samplers.stage import run_stage


def main(snakemake):
    folders = [Path(path).parent for path in snakemake.input.rounds]
    write_json({"rounds": summarize_rounds(folders)}, snakemake.output[0])


run_stage(main, snakemake)
