"""Measure how different the answers to a prompt under a heuristic are across seeds."""

from collections import Counter

from adaptive_samplers.files import write_json
from adaptive_samplers.labels.diversity import label_diversity
from adaptive_samplers.labels.vectors import read_embeddings
from adaptive_samplers.stage import run_stage, say
from adaptive_samplers.tables import KEY, parts_of_prompts, write_parts


def main(snakemake):
    report = Counter()

    def labelled():
        columns = [*KEY, "text", "finish_reason", "error"]
        for part in parts_of_prompts("candidates", snakemake.input.candidates, columns):
            labels, found = label_diversity(part, read_embeddings(snakemake.input.embeddings, set(part["text"])))
            report.update(found)
            del part  # before the next one is read
            yield labels

    write_parts("diversity", labelled(), snakemake.output.labels)
    say(f"diversity: {dict(report)}")
    write_json(dict(report), snakemake.output.report)


run_stage(main, snakemake)
