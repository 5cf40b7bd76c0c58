"""Train the embedded judge on pairs of written and corrupted answers; measure it by cross-validation."""

from pathlib import Path

from adaptive_samplers.files import write_json
from adaptive_samplers.labels.judges.feature_reward import train_feature_reward
from adaptive_samplers.labels.judges.registry import has_likelihood
from adaptive_samplers.labels.judges.training_pairs import pair_features, read_pairs
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.stage import run_stage, say, settings_of


def main(snakemake):
    config = settings_of(snakemake)
    settings = config.labels.quality.judge
    pairs = read_pairs(Path(snakemake.input.pairs))
    model = None
    if has_likelihood(settings.features):
        model = LanguageModel.from_config(config, Path(snakemake.input.model))
    embedder, trusted = Path(snakemake.input.embedder), config.labels.embedder.trust_remote_code
    features = pair_features(pairs, settings.features, model, embedder, config.model.device, trusted)
    judge, report = train_feature_reward(features, settings.regularization, settings.features)
    say(f"cross-validated accuracy {report['accuracy']:.3f}; by corruption {report['accuracy_by_corruption']}")
    judge.save(snakemake.output.judge)
    write_json(report, snakemake.output.report)


run_stage(main, snakemake)
