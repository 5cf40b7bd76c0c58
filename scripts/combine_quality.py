"""One table of quality from the ratings of several judges, and how far these agree."""

from pathlib import Path

from adaptive_samplers.files import read_json, write_json
from adaptive_samplers.labels.combination import combine_quality, combined_report
from adaptive_samplers.stage import run_stage, say, settings_of


def main(snakemake):
    judges = snakemake.params.judges
    quality = settings_of(snakemake).labels.quality
    method, group = quality.combine, quality.tournament.group
    tables = dict(zip(judges, map(Path, snakemake.input.labels), strict=True))
    found = combine_quality(tables, method, Path(snakemake.output.labels), group)
    say(f"agreement of the judges: {found['agreement']}")
    reports = dict(zip(judges, map(read_json, snakemake.input.reports), strict=True))
    write_json(combined_report(reports, method, found), snakemake.output.report)


run_stage(main, snakemake)
