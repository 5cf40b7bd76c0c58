"""The language model of the default config, which benchmarks on a real model use."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY / "scripts"))

from adaptive_samplers.models.fetch import fetch_model  # noqa: E402 (after the library's place is known)
from adaptive_samplers.models.language_model import LanguageModel  # noqa: E402


def default_config() -> dict[str, Any]:
    """The config as it is written."""
    return yaml.safe_load((REPOSITORY / "config" / "config.yaml").read_text())


def fetch_embedded_model(folder: Path) -> Path:
    """Fetch the model into a folder, and tell where its files are."""
    settings = default_config()["model"]
    place = folder / "model"
    fetch_model(settings["name"], settings["source"], settings["license"], place)
    return place


def load_embedded_model() -> LanguageModel:
    """The model on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        return LanguageModel(fetch_embedded_model(Path(folder)), device="cpu")
