"""What pyproject.toml asks for is what the parts of the library import, in versions that are tested."""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_environments import LOCK, listed, pins, pins_tested_with, rules_of_environments

import adaptive_samplers
from adaptive_samplers.errors import UserError
from adaptive_samplers.extras import EXTRAS, MissingPackage, extra_with
from support import REPOSITORY, imported_packages

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
LIBRARY = REPOSITORY / "scripts" / "adaptive_samplers"
# The extra with which an environment is made for each server.
SERVERS = {"sglang": "serving", "vllm": "vllm"}
# What has no wheels everywhere is pinned apart.
APART = [REPOSITORY / "tests" / "reasoning_gym.txt", *(REPOSITORY / "envs").glob("*.txt")]
DISTRIBUTIONS = metadata.packages_distributions()

# What `pip install .` is for: docs/library.md.
PROMISED = ["samplers", "heuristics", "import_reference.py", "repeated_sampling/__init__.py", "verbalized/__init__.py"]
# Asked for by an extra of their own, or by the pipeline's.
BY_NAME = {"peft", "reasoning_gym", "sglang", "tokengrams", "uvicorn", "vllm"}
# What the pipeline needs without importing it: transformers does, for GGUF files, and Snakemake does its plugin.
NOT_IMPORTED = {"accelerate", "gguf", "snakemake-executor-plugin-slurm"}
# Comes with a build of PyTorch for CUDA, and is not wanted with another.
WITH_CUDA = "triton"


def modules(*places: str) -> Iterator[Path]:
    for place in places:
        path = LIBRARY / place
        yield from path.rglob("*.py") if path.is_dir() else [path]


def imported(paths: Iterable[Path]) -> set[str]:
    """The packages of others that modules import, themselves or through the library."""
    seen: set[Path] = set()
    found = set().union(*(imported_packages(path, seen) for path in paths))
    return found - set(sys.stdlib_module_names) - {"adaptive_samplers", WITH_CUDA}


def distribution(package: str) -> str:
    return canonicalize_name(DISTRIBUTIONS.get(package, [package])[0])


def requirements(extra: str) -> dict[str, Requirement]:
    """What an extra asks for, with the extras that it refers to; for the empty name, what everybody gets."""
    found = {}
    for line in PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]:
        requirement = Requirement(line)
        if requirement.name == PROJECT["name"]:
            for other in requirement.extras:
                found |= requirements(other)
        else:
            found[canonicalize_name(requirement.name)] = requirement
    return found


BASE = imported(modules(*PROMISED))
NEEDED = {
    "": BASE,
    "preferences": imported(modules("preferences")) - BASE,
    "labels": imported(modules("labels")) - BASE - BY_NAME,
    "serving": imported(modules("serving")) - BASE - {"peft", "vllm"},
    # SGLang's launcher alone imports what it serves by.
    "vllm": imported(modules("serving")) - BASE - {"peft", "sglang", "uvicorn"},
    "pipeline": imported(
        [*modules("."), *(REPOSITORY / "scripts" / f"{script}.py" for _, script in rules_of_environments())]
    )
    - BASE
    - (BY_NAME - {"peft"}),
    "overlap": {"tokengrams"},
    "reasoning-gym": {"reasoning_gym"},
}


def test_every_extra_is_known():
    assert NEEDED.keys() - {""} == PROJECT["optional-dependencies"].keys() == EXTRAS.keys()


@pytest.mark.parametrize("extra", NEEDED)
def test_an_extra_asks_for_what_its_part_of_the_library_imports_and_no_more(extra):
    asked = set(requirements(extra)) - (NOT_IMPORTED if extra == "pipeline" else set())
    assert asked == {distribution(package) for package in NEEDED[extra]}


@pytest.mark.parametrize("extra", EXTRAS)
def test_errors_know_what_an_extra_brings(extra):
    assert EXTRAS[extra] == NEEDED[extra]


def test_a_part_is_told_of_its_own_extra():
    assert extra_with("pandas", "adaptive_samplers.preferences.pair_selection") == "preferences"
    assert extra_with("pandas", "adaptive_samplers.labels.quality") == "labels"
    assert extra_with("requests", "adaptive_samplers.serving.api") == "serving"
    assert extra_with("pandas", "adaptive_samplers.tables") == "pipeline"
    assert extra_with("matplotlib", "adaptive_samplers.labels.quality") == "pipeline"
    assert extra_with("tokengrams", "adaptive_samplers.labels.overlap.index") == "overlap"
    assert extra_with("nothing", "adaptive_samplers.tables") is None


def test_a_missing_package_is_what_callers_of_either_kind_expect():
    assert issubclass(MissingPackage, ModuleNotFoundError) and issubclass(MissingPackage, UserError)


@pytest.mark.parametrize("extra", NEEDED)
def test_what_is_asked_for_fits_the_versions_that_are_tested(extra):
    tested = (
        pins("\n".join(path.read_text() for path in APART))
        | {"vllm": pins_tested_with("vllm")["vllm"]}
        | pins_tested_with("sglang")
        | LOCK
    )
    for name, requirement in requirements(extra).items():
        assert requirement.specifier and requirement.specifier.contains(tested[name]), requirement


@pytest.mark.parametrize("server", SERVERS)
def test_the_library_can_share_an_environment_with_a_server(server):
    # Which pins these itself, in versions of its own.
    versions = listed(server)
    for name, requirement in (requirements("") | requirements(SERVERS[server])).items():
        assert requirement.specifier.contains(versions[name]), requirement


def test_the_library_fits_the_tests_of_vllm():
    versions = pins_tested_with("vllm")
    for name, requirement in requirements("").items():
        # What is for tables of several samples alone is not in the lock of the tests' servers.
        if name != "scipy":
            assert requirement.specifier.contains(versions[name]), requirement


def test_vllm_finds_the_processor():
    (entry,) = PROJECT["entry-points"]["vllm.logits_processors"].values()
    module, name = entry.split(":")
    text = (REPOSITORY / "scripts" / Path(*module.split("."))).with_suffix(".py").read_text()
    assert f"class {name}(" in text


def test_the_version_is_said_once():
    assert "version" in PROJECT["dynamic"]
    assert yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())["version"] == adaptive_samplers.__version__
    assert re.search(
        rf"^## {re.escape(adaptive_samplers.__version__)}\b", (REPOSITORY / "CHANGELOG.md").read_text(), re.M
    )


def test_the_package_holds_every_file_of_the_library():
    code = (".py", ".pyc", ".nbi", ".nbc")
    others = {
        str(path.relative_to(LIBRARY)) for path in LIBRARY.rglob("*") if path.is_file() and path.suffix not in code
    }
    tools = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]
    assert others == set(tools["setuptools"]["package-data"]["adaptive_samplers"])
    assert all((path.parent / "__init__.py").is_file() for path in LIBRARY.rglob("*.py"))
