"""Whether the benchmarks that are run by hand start at all: nothing else notices when the library moves on."""

import os
import subprocess
import sys

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
