"""Stages that read whole tables."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from cases import Case, Measured


def cases() -> Iterator[Case]:
    """Verify, score and select in parts against plain pandas with all answers in memory; each step is a process."""
    import tables

    prompts = 60
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tables.make_data(folder, prompts)

        def run(form: str) -> list[int]:
            return [tables.measure(step, form, folder).peak_bytes for step in tables.STEPS]

        meta = {"against": "plain pandas", "batch": prompts * tables.HEURISTICS * tables.SEEDS}
        name = "tables/verify_score_select"
        yield {"name": f"{name}_seconds", "unit": "seconds", **meta}, lambda: run("plain"), lambda: run("ours")
        peaks = {form: max(run(form)) for form in ("plain", "ours")}
        yield (
            {"name": f"{name}_memory", "unit": "bytes, the largest of the steps", **meta},
            lambda: Measured(peaks["plain"]),
            lambda: Measured(peaks["ours"]),
        )
