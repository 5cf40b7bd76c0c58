"""Write Snakemake's self-contained HTML report of this run."""

from pathlib import Path

from adaptive_samplers.report import write_report
from adaptive_samplers.stage import run_stage


def main(snakemake):
    write_report(snakemake.params.config, Path(snakemake.scriptdir).parent / "Snakefile", Path(snakemake.output[0]))


run_stage(main, snakemake)
