"""A real run of the smallest configuration on the real language model, shared by the integration tests."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from adaptive_samplers.config.model.generation import VLLM, SGLang
from adaptive_samplers.engines import Completion, Request
from adaptive_samplers.engines.transformers_engine import TransformersEngine
from adaptive_samplers.models.fetch import cache_folder, fetch_model
from adaptive_samplers.models.language_model import LanguageModel
from kill_runs import files_of
from served_requests import answers, parity_requests
from support import REPOSITORY, SMOKE, Workflow, absent, working_directory

if TYPE_CHECKING:
    from selenium import webdriver

# The longest groups of tests, which begin first.
FINISHED_RUN, SERVERS = "the finished run", "servers"
FIRST = [FINISHED_RUN, SERVERS, "test_slurm.py"]
# Tests of these files share nothing.
EACH_ALONE = {"test_how_to_pages.py"}


@cache
def group_of(file: str) -> str:
    """Of the tests that one process runs where several run them: a finished run and answers in process are made once.

    There is one SLURM on a machine, too. Else a file is a group.
    """
    path = Path(__file__).parent / Path(file).name
    if path.name.startswith(("test_served", "test_sglang", "test_vllm")):
        return SERVERS
    takes_the_run = path.exists() and re.search(r"^def \w+\([^)]*\bworkflow\b", path.read_text(), re.MULTILINE)
    return FINISHED_RUN if takes_the_run else path.name


class Groups(LoadScopeScheduling):
    """Gives a group to each process that has nothing to do.

    Those of xdist 3.8, by markers, do nothing with pytest 9.2, whose nodes lack the private name that they set.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if Path(file).name in EACH_ALONE else group_of(file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Take these groups with `--dist loadgroup --no-loadscope-reorder`, in the order of the tests."""
    return Groups(config, log) if config.getoption("dist") == "loadgroup" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest groups first, then the others in the order of their files."""
    order = [*FIRST, *dict.fromkeys(group_of(item.path.name) for item in items)]
    items.sort(key=lambda item: order.index(group_of(item.path.name)))


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


@pytest.fixture
def browser(tmp_path: Path) -> Iterator["webdriver.Chrome"]:
    """Chromium without a window."""
    from selenium import webdriver

    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(programs):
        absent("Chromium and its driver are not installed (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for argument in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "no-first-run"):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    options.add_argument("--window-size=1600,1000")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()
