"""Trace answers to the reference corpus."""

from adaptive_samplers.files import write_json
from adaptive_samplers.labels.overlap import label_overlap, open_tracer
from adaptive_samplers.stage import run_stage, say, settings_of
from adaptive_samplers.tables import KEY, read_batches, write_parts


def main(snakemake):
    settings, report = settings_of(snakemake).labels.overlap, {}
    with open_tracer(settings, dict(snakemake.input.items())) as tracer:
        columns = [*KEY, *tracer.columns, "finish_reason", "error"]
        parts = (batch.to_pandas() for batch in read_batches("candidates", snakemake.input.candidates, columns))
        labels = label_overlap(parts, tracer, settings.minimum_match, settings.tolerance, report)
        write_parts("overlap", labels, snakemake.output.labels)
    say(f"overlap: {report}")
    write_json(report, snakemake.output.report)


run_stage(main, snakemake)
