"""Shared by all tests: the library is imported from the place where the workflow's scripts find it."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "scripts"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes tests/unit/golden_stages.json anew."""
    parser.addoption(
        "--update-golden", action="store_true", help="record the outputs of stages whose version was raised"
    )
