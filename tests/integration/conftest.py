"""A real run of the smallest configuration on the real language model, shared by the integration tests."""

from pathlib import Path

import pytest

from adaptive_samplers.models.fetch import fetch_model
from adaptive_samplers.models.language_model import LanguageModel
from support import SMOKE, Workflow, working_directory


@pytest.fixture(scope="session")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A finished run. Tests that change it leave it finished."""
    finished = working_directory(tmp_path_factory.mktemp("pipeline") / "work")
    done = finished.run()
    assert done.returncode == 0, done.stdout[-5000:]
    return finished


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded base language model."""
    folder = tmp_path_factory.mktemp("models") / SMOKE["model"]["name"]
    fetch_model(SMOKE["model"]["name"], SMOKE["model"]["source"], SMOKE["model"]["license"], folder)
    return folder


@pytest.fixture(scope="session")
def model(model_folder: Path) -> LanguageModel:
    """The same, loaded."""
    return LanguageModel(model_folder, device="cpu")
