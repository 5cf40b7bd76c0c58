"""The rows that both phases requested, and their reports joined into one."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_samplers.grid import Grid
from adaptive_samplers.verification import LISTED, allocated_places


def asked_places(allocation: Path, grid: Grid, first_seeds: Sequence[int]) -> np.ndarray:
    """Which keys were requested in the two phases, bool by index: all with the first seeds, and the allocation's.

    Raises
    ------
    UserError
        If the table cannot be read, or has a key that is not in the grid.
    """
    asked = allocated_places(allocation, grid)
    asked.reshape(grid.shape)[..., np.isin(grid.seeds.to_numpy(), first_seeds)] = True
    return asked


def join_reports(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What `verify_candidates` found in both phases, as one report; a prompt that both dropped is listed once.

    Shares are per phase, and the larger one counts.
    """
    kinds = ["missing", "duplicated", "failed"] + ["unparsed"] * any("unparsed" in report for report in reports)
    shares: dict[str, float] = {}
    for report in reports:
        for name, share in report.get("unparsed_shares", {}).items():
            shares[name] = max(share, shares.get(name, 0.0))
    finish_reasons: Counter[str] = Counter()
    for report in reports:
        finish_reasons.update(report["finish_reasons"])
    rows = {kind: [row for report in reports for row in report.get(kind, [])] for kind in kinds}
    unlisted = {
        kind: sum(report.get("unlisted", {}).get(kind, 0) for report in reports) + max(0, len(rows[kind]) - LISTED)
        for kind in kinds
    }
    return {
        "expected": sum(report["expected"] for report in reports),
        "found": sum(report["found"] for report in reports),
        **{kind: rows[kind][:LISTED] for kind in kinds},
        "dropped_prompts": sorted({prompt for report in reports for prompt in report["dropped_prompts"]}),
        "incomplete_share": max(report["incomplete_share"] for report in reports),
        "tolerance": max(report["tolerance"] for report in reports),
        "finish_reasons": dict(finish_reasons.most_common()),
        **({"unparsed_shares": shares} if shares else {}),
        **({"unlisted": unlisted} if any(unlisted.values()) else {}),
    }
