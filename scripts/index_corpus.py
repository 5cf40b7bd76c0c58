"""Build the suffix-array index of the reference corpus, in the base model's tokens."""

from pathlib import Path

from adaptive_samplers.labels.overlap import build_index, read_corpus, tokenize_corpus
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.stage import run_stage, say


def main(snakemake):
    documents = tokenize_corpus(read_corpus(snakemake.input.corpus), snakemake.input.model)
    summary = build_index(documents, Path(snakemake.output[0]), ChatTokenizer(snakemake.input.model).size)
    say(f"corpus index: {summary}")


run_stage(main, snakemake)
