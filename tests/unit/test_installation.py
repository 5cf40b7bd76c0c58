"""`make` finds a Python that suits, and makes .venv only when it has to: tried with Pythons that only pretend."""

import shutil
import subprocess
from pathlib import Path

import pytest

from support import REPOSITORY

# Pretends to be a Python: tells its version, makes environments that hold a copy of it, and notes what it is asked for.
PYTHON = """#!/bin/sh
case "$1 $2" in
  -c*) echo "{version} {base}" ;;
  "-m venv")
    [ "$3" != --clear ] || rm -rf .venv
    for folder; do :; done
    mkdir -p "$folder/bin"
    cp "$0" "$folder/bin/python" ;;
esac
echo "{version}: $*" >> "{notes}"
"""
TOOLS = ["bash", "cat", "chmod", "cmp", "cp", "dirname", "env", "grep", "make", "mkdir", "rm", "sed", "sh", "sort"]
BROKEN = "#!/bin/sh\necho 'no such version is active' >&2\nexit 127\n"


class Machine:
    """A copy of what `make environment` reads, and a PATH with the Pythons of a machine."""

    def __init__(self, folder: Path, name: str = "clone") -> None:
        self.clone, self.commands, self.notes = folder / name, folder / "bin", folder / "notes"
        (self.clone / "envs").mkdir(parents=True)
        self.commands.mkdir(exist_ok=True)
        self.notes.touch()
        for file in ("Makefile", "requirements.lock", "envs/install.sh", "envs/find_python.sh"):
            shutil.copy(REPOSITORY / file, self.clone / file)
        for tool in TOOLS:
            if not (self.commands / tool).exists():
                (self.commands / tool).symlink_to(shutil.which(tool))

    def add(self, name: str, version: str | None) -> Path:
        """A command that is a Python of some version, or one that fails."""
        path = self.commands / name
        path.write_text(PYTHON.format(version=version, base=path, notes=self.notes) if version else BROKEN)
        path.chmod(0o755)
        return path

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.clone,
            env={"PATH": str(self.commands), **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def make(self, *arguments: str) -> list[str]:
        """What `make environment` had Pythons do."""
        before = len(self.notes.read_text().splitlines())
        done = self.run("make", "environment", *arguments)
        assert done.returncode == 0, done.stderr
        return [line for line in self.notes.read_text().splitlines()[before:] if ": -c" not in line]


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ({"python3.11": "3.11", "python3.12": "3.12", "python3.13": "3.13", "python3.14": "3.14"}, "python3.13"),
        # Version managers leave commands behind that fail.
        ({"python3.11": "3.11", "python3.12": "3.12", "python3.13": None}, "python3.12"),
        ({"python3": "3.12", "python3.11": "3.11"}, "python3"),
        ({"python": "3.11", "python3": "3.9"}, "python"),
        # A name may promise another version than it gives.
        ({"python3.13": "3.10", "python3.11": "3.11"}, "python3.11"),
    ],
)
def test_the_newest_python_that_runs_is_taken(machine, commands, expected):
    for name, version in commands.items():
        machine.add(name, version)
    done = machine.run("envs/find_python.sh")
    assert (done.returncode, done.stdout) == (0, f"{machine.commands / expected}\n")


def test_versions_can_be_asked_for(machine):
    for version in ("3.11", "3.12", "3.13"):
        machine.add(f"python{version}", version)
    assert machine.run("envs/find_python.sh", "3.12", "3.11").stdout == f"{machine.commands / 'python3.12'}\n"


def test_where_there_is_none_it_says_what_it_looked_for_and_what_it_found(machine):
    machine.add("python3", "3.9")
    machine.add("python3.13", None)
    done = machine.run("make", "environment")
    assert done.returncode != 0 and not (machine.clone / ".venv").exists()
    for part in (
        "3.13 3.12 3.11",
        "python3.13 python3.12 python3.11 python3 python",
        f"{machine.commands / 'python3'} (Python 3.9)",
        f"{machine.commands / 'python3.13'} (does not run",
        "python3-venv",
        "make PYTHON=/path/to/python",
    ):
        assert part in done.stderr


def test_a_python_that_was_named_is_taken_or_refused(machine):
    machine.add("python3.13", "3.13")
    other = machine.add("my python", "3.11")
    machine.add("old", "3.8")
    assert machine.run("envs/find_python.sh", PYTHON=str(other)).stdout == f"{other}\n"
    for name in ("old", "python3.12"):
        done = machine.run("make", "environment", f"PYTHON={name}")
        assert done.returncode != 0 and f"Looked for: {name}." in done.stderr


def test_the_real_pythons_of_this_machine_say_the_same(tmp_path):
    done = subprocess.run([REPOSITORY / "envs" / "find_python.sh"], capture_output=True, text=True, check=True)
    python = done.stdout.strip()
    code = "import sys; print(sys.version_info[:2], sys.prefix == sys.base_prefix)"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found in [f"(3, {minor}) True\n" for minor in (11, 12, 13)]


def test_an_environment_is_made_once_and_again_for_another_lock_or_python(machine):
    lock = machine.clone / "requirements.lock"
    torch = next(line for line in lock.read_text().splitlines() if line.startswith("torch=="))
    pip = "-m pip install --quiet --disable-pip-version-check"
    machine.add("python3.11", "3.11")
    installs = [f"3.11: {pip} {torch}", f"3.11: {pip} --requirement requirements.lock"]
    installs.append("3.11: -m adaptive_samplers.engines.precompile")
    assert machine.make() == ["3.11: -m venv --clear .venv", *installs]
    assert machine.make() == machine.make("PYTHON=python3.11") == []
    # Another lock is installed over it, but a newer Python changes nothing until it is asked for.
    machine.add("python3.13", "3.13")
    assert machine.make() == []
    lock.write_text(lock.read_text() + "# changed\n")
    assert machine.make() == ["3.11: -m venv .venv", *installs]
    assert machine.make("PYTHON=python3.13")[0] == "3.13: -m venv --clear .venv"
    assert machine.make() == []
    # The interpreter behind it is gone, as after an upgrade of the system.
    (machine.clone / ".venv" / "bin" / "python").write_text(BROKEN)
    (machine.commands / "python3.13").unlink()
    assert machine.make()[0] == "3.11: -m venv --clear .venv"


def test_an_installation_that_failed_is_tried_again(machine):
    machine.add("python3.11", "3.11")
    lock = machine.clone / "requirements.lock"
    good = lock.read_text()
    machine.make()
    lock.write_text("no torch in it\n")
    assert machine.run("make", "environment").returncode != 0
    lock.write_text(good)
    assert "3.11: -m venv .venv" in machine.make()


@pytest.mark.parametrize("name", ["my clone", "it's", "a&b", "$HOME", "a(b)", "a:b"])
def test_a_folder_in_which_snakemake_cannot_start_jobs_is_refused_before_anything_is_installed(tmp_path, name):
    machine = Machine(tmp_path, name)
    machine.add("python3.11", "3.11")
    done = machine.run("make", "demo")
    assert done.returncode != 0 and "Nothing was installed" in done.stderr
    assert f"  {machine.clone}\n" in done.stderr
    assert not (machine.clone / ".venv").exists() and machine.notes.read_text() == ""


@pytest.mark.parametrize("name", ["clone-1.0_b,c+d@e=f", "größe", "[x]{y}"])
def test_other_characters_do_no_harm(tmp_path, name):
    machine = Machine(tmp_path, name)
    machine.add("python3.11", "3.11")
    assert machine.make()
