"""Shared by all tests. The library is found through `pythonpath` in pyproject.toml."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from adaptive_samplers.models.language_model import LanguageModel

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# How long an example takes says how busy the machine is. CI tries the same examples each time.
settings.register_profile("project", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("project")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes tests/unit/golden_stages.json anew; `--repeat N` runs tests of faults N times."""
    parser.addoption(
        "--update-golden", action="store_true", help="record the outputs of stages whose version was raised"
    )
    parser.addoption("--repeat", type=int, default=1, help="how often each test that is marked `fault` runs")


def pytest_configure(config: pytest.Config) -> None:
    """The marker of tests that ask for what they do not find on this machine."""
    config.addinivalue_line("markers", "index: asks the package index, some thousand times; a minute or two")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat the tests of faults."""
    if metafunc.definition.get_closest_marker("fault"):
        metafunc.fixturenames.append("repetition")
        metafunc.parametrize("repetition", range(1, metafunc.config.getoption("repeat") + 1))


@pytest.fixture(scope="session")
def tokengrams() -> None:
    """For tests that make or read the index of a corpus."""
    from support import need_tokengrams

    need_tokengrams()


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny language model, fetched as a model of the kind `folder`."""
    from adaptive_samplers.models.fetch import fetch_model
    from tiny_model import write_tiny_model

    place = tmp_path_factory.mktemp("tiny")
    write_tiny_model(place / "written")
    fetch_model("tiny", {"kind": "folder", "path": str(place / "written")}, "CC0-1.0", place / "model")
    return place / "model"


@pytest.fixture(scope="session")
def tiny_model(tiny_model_folder: Path) -> "LanguageModel":
    """The same, loaded; nothing may change it."""
    from adaptive_samplers.models.language_model import LanguageModel

    return LanguageModel(tiny_model_folder, device="cpu")
