"""The conda environments of the rules agree with the lock, and the lock with what is installed."""

import ast
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from support import REPOSITORY

ENVIRONMENTS = sorted((REPOSITORY / "envs").glob("*.yaml"))
PIN = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==([^\s;]+)", re.MULTILINE)


def pins(text: str) -> dict[str, str]:
    return {name.lower().replace("_", "-"): version for name, version in PIN.findall(text)}


LOCK = pins((REPOSITORY / "requirements.lock").read_text())


def pip_section(path: Path) -> list[str]:
    return next(entry["pip"] for entry in yaml.safe_load(path.read_text())["dependencies"] if isinstance(entry, dict))


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_pins_agree_with_the_lock(path):
    found = pins("\n".join(pip_section(path)))
    assert len(found) == len(pip_section(path)), "every package is pinned"
    assert found == {name: LOCK[name] for name in found}


def test_what_is_asked_for_is_locked():
    asked = [re.split(r"[\[;#]", line)[0] for line in (REPOSITORY / "requirements.in").read_text().split("\n")]
    names = {line.strip().lower().replace("_", "-") for line in asked if line.strip()}
    assert names <= set(LOCK)


def test_what_is_installed_is_what_is_locked():
    for name, version in LOCK.items():
        assert metadata.version(name).split("+")[0] == version, name


def at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a module without what only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from at_run_time(node)


def imported_packages(path: Path, seen: set[Path]) -> set[str]:
    """Top-level packages that a script imports, itself or through the library."""
    if path in seen:
        return set()
    seen.add(path)
    found = set()
    for node in at_run_time(ast.parse(path.read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for module in modules:
            if not module.startswith("adaptive_samplers"):
                found.add(module.split(".")[0])
                continue
            if module == "adaptive_samplers":
                continue  # its shortcut to samplers is taken by no stage
            place = REPOSITORY / "scripts" / Path(*module.split("."))
            for candidate in (place.with_suffix(".py"), place / "__init__.py"):
                if candidate.is_file():
                    found |= imported_packages(candidate, seen)
    return found


def rules_of_environments() -> list[tuple[str, str]]:
    text = "\n".join(path.read_text() for path in sorted((REPOSITORY / "rules").glob("*.smk")))
    return re.findall(r'conda:\s+"\.\./envs/(\w+)\.yaml".*?script:\s+"\.\./scripts/(\w+)\.py"', text, re.DOTALL)


@pytest.mark.parametrize(("environment", "script"), rules_of_environments())
def test_each_environment_lists_all_that_its_scripts_import(environment, script):
    # Snakemake puts its own packages on a job's path: one that an environment lacks would be taken from there.
    distributions = metadata.packages_distributions()
    listed = pins("\n".join(pip_section(REPOSITORY / "envs" / f"{environment}.yaml")))
    packages = imported_packages(REPOSITORY / "scripts" / f"{script}.py", set()) - set(sys.stdlib_module_names)
    for package in packages - {"adaptive_samplers"}:
        names = {name.lower().replace("_", "-") for name in distributions[package]}
        assert names & set(listed), f"envs/{environment}.yaml lacks {package}, which {script}.py imports"
