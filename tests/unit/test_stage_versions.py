"""A stage whose output changes must have its version raised, or Snakemake would keep what the old code made.

Every stage's output on a small fixed input is kept in golden_stages.json: a hash of all but the floats, and the floats,
which may differ by rounding from one processor to the next. The package golden makes them.
"""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from golden import BY_A_MODEL, GOLDEN, WITHOUT_GOLDEN
from golden.judges import JUDGES

from adaptive_samplers.figures.declaration import Plot
from adaptive_samplers.hashing import content_id
from adaptive_samplers.labels.judges.registry import JUDGES as KINDS_OF_JUDGES
from adaptive_samplers.versions import SAME_AS, STAGE_VERSIONS
from support import REPOSITORY

GOLDEN_FILE = Path(__file__).with_name("golden_stages.json")
# What differs by less than this is the same number, rounded otherwise.
RELATIVE, ABSOLUTE, ABSOLUTE_BY_A_MODEL = 1e-3, 1e-6, 1e-4


def skeleton(value, numbers: list[float | None]):
    """`value` as plain JSON, its floats moved into `numbers`."""
    if isinstance(value, pd.DataFrame):
        return [list(value.columns), [skeleton(row, numbers) for row in value.to_numpy(dtype=object).tolist()]]
    if isinstance(value, dict):
        return {str(key): skeleton(item, numbers) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [skeleton(item, numbers) for item in value]
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float | np.floating):
        numbers.append(float(f"{value:.6g}") if math.isfinite(value) else str(value))
        return "float"
    return value.item() if isinstance(value, np.generic) else value


def stage_of(name: str) -> str:
    """The stage of a golden output."""
    return name.partition("/")[0]


def entry_of(name: str, folder: Path) -> dict:
    numbers: list[float | None] = []
    plain = skeleton(GOLDEN[name](folder), numbers)
    return {"version": STAGE_VERSIONS[stage_of(name)], "hash": content_id(plain, length=32), "numbers": numbers}


def same_output(name: str, one: dict, other: dict) -> bool:
    """Whether two entries of this name have the same content, up to the rounding of floats."""
    absolute = ABSOLUTE_BY_A_MODEL if name in BY_A_MODEL else ABSOLUTE
    if one["hash"] != other["hash"] or len(one["numbers"]) != len(other["numbers"]):
        return False
    pairs = [pair for pair in zip(one["numbers"], other["numbers"], strict=True) if pair[0] != pair[1]]
    return all(not isinstance(a, str) and not isinstance(b, str) for a, b in pairs) and all(
        math.isclose(a, b, rel_tol=RELATIVE, abs_tol=absolute) for a, b in pairs
    )


def complaint(name: str, kept: dict | None, found: dict) -> str | None:
    """What is wrong with a golden output of a stage, or None."""
    stage = stage_of(name)
    record = "run `python -m pytest tests/unit/test_stage_versions.py --update-golden`"
    if kept is None:
        return f"the stage '{stage}' has no golden output '{name}' yet; {record}"
    if kept["version"] != found["version"]:
        return f"the version of the stage '{stage}' was changed from {kept['version']} to {found['version']}; {record}"
    if not same_output(name, kept, found):
        return (
            f"the output of the stage '{stage}' changed for the same input ('{name}'): raise its version in "
            f"scripts/adaptive_samplers/versions.py, so that results of the old code are made again, and {record}. "
            f"(Only where this test's input was changed: delete the entry '{name}' from golden_stages.json instead.)"
        )
    return None


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_a_stage_with_another_output_has_another_version(name, tmp_path, request):
    golden = json.loads(GOLDEN_FILE.read_text()) if GOLDEN_FILE.exists() else {}
    kept, found = golden.get(name), entry_of(name, tmp_path)
    changed_unnoticed = kept is not None and kept["version"] == found["version"] and not same_output(name, kept, found)
    if request.config.getoption("--update-golden") and not changed_unnoticed:
        if kept is None or kept["version"] != found["version"]:
            golden[name] = found
            GOLDEN_FILE.write_text(json.dumps(dict(sorted(golden.items())), indent=2, ensure_ascii=False) + "\n")
        return
    message = complaint(name, kept, found)
    assert message is None, message


def test_every_stage_has_a_golden_output_or_a_reason():
    stages = {stage_of(name) for name in GOLDEN}
    assert not stages & set(WITHOUT_GOLDEN)
    assert stages | set(WITHOUT_GOLDEN) | set(SAME_AS) == set(STAGE_VERSIONS)
    assert set(json.loads(GOLDEN_FILE.read_text())) == set(GOLDEN) and all(WITHOUT_GOLDEN.values())


def test_every_kind_of_judge_has_a_golden_tournament():
    assert set(JUDGES) == set(KINDS_OF_JUDGES)


def test_every_stage_is_used_by_a_rule():
    rules = "".join(path.read_text() for path in (REPOSITORY / "rules").glob("*.smk"))
    # Most plots have the stage that a plot has by default.
    used = {stage for stage in STAGE_VERSIONS if f'"{stage}"' in rules} | {Plot.stage}
    assert used == set(STAGE_VERSIONS)


def test_what_counts_as_a_change():
    kept = {"version": 1, "hash": "a", "numbers": [1.0, -20.0, "inf"]}
    assert complaint("x", kept, {**kept, "numbers": [1.0001, -20.001, "inf"]}) is None
    for change in (
        {"hash": "b"},
        {"numbers": [1.01, -20.0, "inf"]},
        {"numbers": [1.0, -20.0, 5.0]},
        {"numbers": [1.0]},
    ):
        assert "raise its version" in complaint("x", kept, {**kept, **change})
        assert "--update-golden" in complaint("x", kept, {**kept, **change})
        assert "was changed from 1 to 2" in complaint("x", kept, {**kept, **change, "version": 2})
    assert "no golden output" in complaint("x", None, kept)
    assert "delete the entry 'x/y'" in complaint("x/y", kept, {**kept, "hash": "b"})
    near_zero = {**kept, "numbers": [1.0, -20.0, "inf", 0.0]}
    for change, names in ((2e-6, {"x"}), (2e-4, {"x", *BY_A_MODEL})):
        moved = {**near_zero, "numbers": [1.0, -20.0, "inf", change]}
        assert {name for name in ("x", *BY_A_MODEL) if not same_output(name, near_zero, moved)} == names
    assert set(GOLDEN) > BY_A_MODEL
