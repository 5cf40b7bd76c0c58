"""Shared by all tests. The library is found through `pythonpath` in pyproject.toml."""

import os

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes tests/unit/golden_stages.json anew."""
    parser.addoption(
        "--update-golden", action="store_true", help="record the outputs of stages whose version was raised"
    )
