"""The engine that the config asks for."""

from pathlib import Path
from typing import Any

from adaptive_samplers.engines.base import Engine
from adaptive_samplers.engines.transformers_engine import TransformersEngine
from adaptive_samplers.models.language_model import LanguageModel


def build_engine(config: dict[str, Any], model_folder: Path) -> Engine:
    """The engine `generation.engine` with the base model in `model_folder`."""
    # The config's schema lists the engines; so far there is one.
    return TransformersEngine(LanguageModel.from_config(config, model_folder), config["generation"]["batch_size"])
