"""A real run of the smallest configuration on the real language model, shared by the integration tests."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaptive_samplers.config.model.generation import VLLM, SGLang
from adaptive_samplers.engines import Completion, Request
from adaptive_samplers.engines.transformers_engine import TransformersEngine
from adaptive_samplers.models.fetch import cache_folder, fetch_model
from adaptive_samplers.models.language_model import LanguageModel
from kill_runs import files_of
from served_requests import answers, parity_requests
from support import REPOSITORY, SMOKE, Workflow, absent, working_directory

# Groups of tests, the longest first, and what belongs to them.
GROUPS = {
    "the finished run": lambda item: "workflow" in item.fixturenames,
    "servers": lambda item: any(item.iter_markers("sglang")) or any(item.iter_markers("vllm")),
    "SLURM": lambda item: any(item.iter_markers("slurm")),
}
# Tests of these files share nothing.
EACH_ALONE = {"test_how_to_pages.py"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests one process runs where several run them (`--dist loadgroup`), and begin with the longest groups.

    A finished run is made once, servers are compared with the same answers, and there is one SLURM on a machine. Else a
    file is a group.
    """
    names = [next((name for name, belongs in GROUPS.items() if belongs(item)), item.path.name) for item in items]
    for item, name in zip(items, names, strict=True):
        if name not in EACH_ALONE:
            item.add_marker(pytest.mark.xdist_group(name))
    order = [*GROUPS, *dict.fromkeys(names)]
    items[:] = [item for _, item in sorted(zip(names, items, strict=True), key=lambda pair: order.index(pair[0]))]


@pytest.fixture(scope="session")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A finished run. Tests that change it leave it finished."""
    finished = working_directory(tmp_path_factory.mktemp("pipeline") / "work")
    done = finished.run()
    assert done.returncode == 0, done.stdout[-5000:]
    finished.made = files_of(finished.folder / "results")
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


@pytest.fixture(scope="session")
def parity(model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Request], list[Completion]]:
    """Requests that all engines must answer alike, and the answers of the one in process."""
    asked = parity_requests(model, tmp_path_factory.mktemp("parity"))
    return asked, answers(TransformersEngine(model, batch_size=96), asked)


def python_of(server: str, title: str) -> Path:
    """The interpreter of a server's real package in the user's cache; leaves the test without it."""
    lock = REPOSITORY / "tests" / f"{server}_cpu" / "requirements.lock"
    place = cache_folder() / f"{server}-cpu-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not (place / "installed").exists():
        absent(f"{title} is not installed; `make test` does it, or tests/{server}_cpu/install.sh (3.4 GB)")
    return place / "bin" / "python"


@pytest.fixture(scope="session")
def sglang_settings() -> Iterator[SGLang]:
    """The config's `sglang` for the real SGLang in the user's cache, and an environment in which its servers run."""
    python = python_of("sglang", "SGLang")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(REPOSITORY / "tests" / "sglang_cpu" / "shims"), prepend=os.pathsep)
        yield SGLang(**SMOKE["generation"]["sglang"] | {"python": str(python), "concurrency": 32})


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The interpreter of the real vLLM in the user's cache."""
    return python_of("vllm", "vLLM")


@pytest.fixture(scope="session")
def vllm_settings(vllm_python: Path) -> VLLM:
    """The config's `vllm` for it."""
    return VLLM(**SMOKE["generation"]["vllm"] | {"python": str(vllm_python), "concurrency": 96})


@pytest.fixture(scope="module")
def server_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server of a test module writes."""
    return tmp_path_factory.mktemp("server") / "server.log"
