"""Read an iteration's samples with the base model: the judge looks at its log-probabilities, not at the policy's."""

from pathlib import Path

from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.policies.rescoring import rescore
from adaptive_samplers.stage import run_stage, settings_of


def main(snakemake):
    config = settings_of(snakemake)
    rescore(
        Path(snakemake.input.candidates),
        LanguageModel.from_config(config, Path(snakemake.input.model)),
        ChatTokenizer(snakemake.input.policy, config.model.trust_remote_code),
        config.generation.batch_size,
        Path(snakemake.output[0]),
    )


run_stage(main, snakemake)
