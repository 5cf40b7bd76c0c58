"""A run that is killed at random moments ends as one that nobody disturbed. Twenty kills: `tests/kill_runs.py`.

`pytest tests/integration/test_kills.py --repeat 10` kills ten runs.
"""

from pathlib import Path

import pytest

from kill_runs import compare, kill_run
from support import Workflow, working_directory

pytestmark = [pytest.mark.pipeline, pytest.mark.model, pytest.mark.fault]

KILLS = 3


def test_a_run_that_is_killed_ends_as_one_that_nobody_disturbed(workflow: Workflow, tmp_path: Path, repetition: int):
    work = working_directory(tmp_path / "work")
    kills = list(kill_run(workflow, work, KILLS, seed=repetition))
    print("\n".join(map(str, kills)))
    assert len({kill.job.rule for kill in kills}) == KILLS
    result = compare(workflow.made, work.folder / "results")
    assert not result, result
    assert result.same > 100 and result.rows_compared > 1000
    # The report is made by a Snakemake within the run, which is nobody else's.
    assert "Another Snakemake" not in (work.folder / "logs/smoke/write_report.log").read_text()
