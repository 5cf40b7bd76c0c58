"""The engine that the config asks for."""

from pathlib import Path

from adaptive_samplers.config.model import Config
from adaptive_samplers.engines.base import Engine
from adaptive_samplers.engines.registry import ENGINES


def build_engine(config: Config, model_folder: Path, log: Path) -> Engine:
    """The engine `generation.engine` with the base model in `model_folder`.

    If the engine starts a server, its output goes into a file next to the rule's `log`.
    """
    return ENGINES[config.generation.engine].opened_by(config, model_folder, log)
