"""What Numba compiled for one of its versions serves that version alone, and whatever others cache meanwhile."""

import sys
from importlib import import_module, invalidate_caches
from pathlib import Path

import numba
import pytest

SOURCE = """
from adaptive_samplers.numba_cache import njit

@njit(cache=True)
def double(x):
    return 2 * x
"""


def cached_before(version: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Call the function as if Numba had this version; whether it came out of the cache."""
    monkeypatch.setattr(numba, "__version__", version)
    monkeypatch.delitem(sys.modules, "doubling", raising=False)
    invalidate_caches()
    double = import_module("doubling").double
    assert double(4.0) == 8
    return sum(double.stats.cache_hits.values()) == 1


def test_versions_do_not_overwrite_each_others_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "doubling.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    found = [cached_before(version, monkeypatch) for version in ("0.65.1", "0.68.1", "0.65.1", "0.68.1")]
    assert found == [False, False, True, True]
    monkeypatch.delitem(sys.modules, "doubling")
