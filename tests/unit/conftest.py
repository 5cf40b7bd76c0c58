"""A config to change, and a folder in which its paths exist."""

from pathlib import Path
from typing import Any

import pytest

from support import read_config


@pytest.fixture
def good_config() -> dict[str, Any]:
    """The default config, as it is written."""
    return read_config("config.yaml")


@pytest.fixture
def config_folder(tmp_path: Path) -> Path:
    """A base folder in which every file exists that the configs name."""
    for name in ("resources/prompts.jsonl", "resources/judge_pairs.jsonl", "data/corpus.txt", "sampler/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path
