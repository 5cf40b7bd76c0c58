"""Whether the benchmarks that are run by hand start at all, which nothing else notices; and how speeds are compared."""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest

from support import REPOSITORY


@pytest.mark.parametrize("name", ["accuracy", "budgets", "extremes", "gpu", "order", "tables", "tournaments"])
def test_a_benchmark_starts(name, tmp_path):
    # As users call it: from any folder, without the tests' own path to the library.
    started = subprocess.run(
        [sys.executable, REPOSITORY / "bench" / f"{name}.py", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert started.returncode == 0, started.stderr
    assert "usage" in started.stdout


@pytest.fixture
def speed(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "bench"))
    return importlib.import_module("run")


def sides(ratio: float, noise: float, seed: int = 0):
    """Two works that tell noisy times instead of taking them."""
    generator, measured = np.random.default_rng(seed), importlib.import_module("cases").Measured

    def side(time: float):
        return lambda: measured(time * np.exp(noise * generator.normal()))

    return side(ratio), side(1.0)


ROW = {"name": "core/some", "against": "another", "unit": "seconds"}


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2])
def test_a_pair_is_repeated_until_the_interval_of_its_ratio_is_narrow(speed, noise):
    results = [speed.compare(dict(ROW), *sides(3.0, noise, seed)) for seed in range(20)]
    for result in results:
        low, high = result["interval"]
        assert low <= result["ratio"] <= high and result["interval_is_narrow"]
        assert high - low < 0.1 * result["ratio"]
        assert result["ratio"] == result["baseline"] / result["ours"]
        assert speed.FEWEST_TURNS <= result["turns"] <= speed.MOST_TURNS
    assert sum(low <= 3.0 <= high for low, high in (result["interval"] for result in results)) >= 15
    needed = [result["turns"] for result in results]
    assert max(needed) == speed.FEWEST_TURNS if noise == 0 else noise < 0.1 or min(needed) > 2 * speed.FEWEST_TURNS


def test_a_pair_is_not_repeated_for_ever_and_the_table_says_so(speed, monkeypatch):
    monkeypatch.setattr(speed, "MOST_TURNS", 20)
    result = speed.compare(dict(ROW), *sides(3.0, noise=2.0))
    assert not result["interval_is_narrow"] and 20 <= result["turns"] <= 22
    assert f"{result['turns']} cap" in speed.table_line(result)
    monkeypatch.setattr(speed, "MOST_SECONDS", 0.0)
    assert speed.compare(dict(ROW), *sides(3.0, noise=2.0))["turns"] == speed.FEWEST_TURNS


def test_the_table_says_which_rows_are_below_their_bar(speed):
    bars = {None: False, 2.9: False, 3.1: True}
    for bar, below in bars.items():
        result = speed.compare({**ROW, "bar": bar}, *sides(3.0, noise=0.0))
        assert result["bar"] == bar and speed.is_below_bar(result) == below
        assert ("below" in speed.table_line(result)) == below


def test_what_both_sides_are_divided_by_holds_for_the_interval_too(speed):
    result = speed.compare({**ROW, "divide": (1, 50)}, *sides(3.0, noise=0.0))
    assert result["ratio"] == pytest.approx(150) and result["interval"] == pytest.approx([150, 150])
