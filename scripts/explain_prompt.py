"""Show what samplers do to each token of an answer to one prompt, as a page and as text."""

from pathlib import Path

from adaptive_samplers.explain.asking import Compared, asked_for, conversation
from adaptive_samplers.explain.page import explanation_page
from adaptive_samplers.explain.steps import explain
from adaptive_samplers.explain.terminal import as_text
from adaptive_samplers.files import atomic_output
from adaptive_samplers.heuristics import configured_pipeline
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.stage import run_stage, settings_of


def main(snakemake):
    settings, inputs = settings_of(snakemake), snakemake.input
    compared = Compared(
        [configured_pipeline(steps) for steps in settings.explain.chains],
        list(inputs.samplers),
        settings.evaluation.preferences,
        Path(inputs.training_set) if inputs.training_set else None,
    )
    own = settings.explain
    asked = asked_for(settings, conversation(snakemake.params.prompt), compared, own.seed, own.tokens, own.top)
    explanation = explain(LanguageModel.from_config(settings, Path(inputs.model)), asked)
    explanation_page(explanation, snakemake.params.model, snakemake.output.html)
    with atomic_output(snakemake.output.text) as temporary:
        temporary.write_text(as_text(explanation) + "\n", encoding="utf-8")


run_stage(main, snakemake)
