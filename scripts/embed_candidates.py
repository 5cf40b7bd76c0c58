"""Embed every distinct prompt and answer once, for all labels that need vectors."""

from pathlib import Path

from adaptive_samplers.labels.embeddings import embed_texts
from adaptive_samplers.labels.judges.features import texts_to_embed
from adaptive_samplers.models.language_model import choose_device, load_decoder
from adaptive_samplers.stage import run_stage
from adaptive_samplers.tables import read_table, write_table


def main(snakemake):
    config = snakemake.config
    columns = ["token_ids", "text", "finish_reason"]
    texts = texts_to_embed(
        read_table("prompts", snakemake.input.prompts),
        read_table("candidates", snakemake.input.candidates, columns),
        load_decoder(snakemake.input.model, config["model"]["trust_remote_code"]),
    )
    embedder = config["labels"]["embedder"]
    embeddings = embed_texts(
        texts,
        Path(snakemake.input.embedder),
        choose_device(config["model"]["device"]),
        batch_size=32,
        trust_remote_code=embedder["trust_remote_code"],
    )
    write_table("embeddings", embeddings, snakemake.output[0])


run_stage(main, snakemake)
