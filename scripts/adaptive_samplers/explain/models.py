"""The language models of a config, by their names: the base model, policies and judges."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adaptive_samplers.config.judges import judges_by_name
from adaptive_samplers.config.model import Config
from adaptive_samplers.errors import UserError
from adaptive_samplers.files import read_json
from adaptive_samplers.labels.judges.registry import JUDGES
from adaptive_samplers.models.fetch import cache_folder, fetch_model
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.policies.sources import policy_source


def language_models(config: Config) -> dict[str, tuple[dict[str, Any], str]]:
    """The source and the license of each, the base model first. Scalar judges and embedders write no text."""
    base = config.model
    found = {base.name: (base.source.model_dump(), base.license)}
    for policy in config.policy_samples.policies:
        found.setdefault(policy.name, (policy_source(policy, base), policy.license))
    for name, judge in judges_by_name(config).items():
        if JUDGES[judge.kind].has_model and judge.kind != "scalar":
            found.setdefault(name, (judge.source.model_dump(), judge.license))
    return found


@contextmanager
def opened(config: Config, name: str | None) -> Iterator[LanguageModel]:
    """A model of the config by its name, the base model for None, or one in any folder, with the base model's settings.

    One that the run has fetched is read from there, any other fetched for as long as it is used: the run's own files
    are left to Snakemake.

    Raises
    ------
    UserError
        If there is no such model, or it cannot be fetched or loaded.
    """
    known = language_models(config)
    name = name or config.model.name
    if name not in known:
        if not (Path(name) / "config.json").is_file():
            raise UserError(
                f"--model {name}: no such model; the config has {', '.join(known)}, or name a model's folder"
            )
        yield LanguageModel.from_config(config, Path(name))
        return
    source, license_name = known[name]
    made = Path("results") / config.run.name / "models" / name
    if made.is_dir() and read_json(made / "provenance.json")["source"] == source:
        yield LanguageModel.from_config(config, made)
        return
    cache_folder().mkdir(parents=True, exist_ok=True)
    # Beside the cached files, so that they are linked rather than copied.
    with tempfile.TemporaryDirectory(prefix="explained-", dir=cache_folder()) as place:
        fetch_model(name, source, license_name, Path(place) / "model")
        yield LanguageModel.from_config(config, Path(place) / "model")
