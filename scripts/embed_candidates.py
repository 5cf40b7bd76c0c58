"""Embed every distinct prompt and answer once, for all labels that need vectors."""

from functools import partial
from pathlib import Path

from adaptive_samplers.labels.embeddings import embed_in_parts, embed_others, embed_texts
from adaptive_samplers.labels.judges.features import texts_to_embed
from adaptive_samplers.models.device import choose_device
from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import parts_of_prompts, read_table, write_parts


def main(snakemake):
    config = settings_of(snakemake)
    prompts = read_table("prompts", snakemake.input.prompts)
    parts = parts_of_prompts("candidates", snakemake.input.candidates, ["text", "finish_reason"])
    embed = partial(
        embed_texts,
        model_folder=Path(snakemake.input.embedder),
        device=choose_device(config.model.device),
        batch_size=32,
        trust_remote_code=config.labels.embedder.trust_remote_code,
    )
    if known := snakemake.input.get("known"):
        embed = partial(embed_others, known=known, embed=embed)
    texts = (texts_to_embed(prompts, part) for part in parts)
    write_parts("embeddings", embed_in_parts(texts, embed), snakemake.output[0])


run_stage(main, snakemake)
