"""The style checks of `make lint`, so that `make test` and CI hold them too."""

import subprocess
import sys
from pathlib import Path

import pytest

from support import REPOSITORY

PYTHON_SOURCES = ["scripts", "tests", "resources", "bench"]


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", *PYTHON_SOURCES],
        ["ruff", "format", "--check", *PYTHON_SOURCES],
        ["snakefmt", "--check", "Snakefile", "rules"],
    ],
    ids=" ".join,
)
def test_style(command):
    program = Path(sys.executable).parent / command[0]
    done = subprocess.run([program, *command[1:]], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_lint_of_every_rule(tmp_path):
    """Rules of adaptive budgets and of iterations are there only where a config asks for them."""
    config = tmp_path / "all.yaml"
    config.write_text(
        "{generation: {adaptive: {enabled: true}}, iteration: {command: 'train {data} {model} {output}'}}"
    )
    program = Path(sys.executable).parent / "snakemake"
    command = [program, "--lint", "--configfile", "config/config.yaml", config]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "good condition" in done.stdout + done.stderr, done.stdout + done.stderr
