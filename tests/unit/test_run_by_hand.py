"""The script of one rule, run outside Snakemake."""

import subprocess
import sys

import pytest

from adaptive_samplers.tables import read_table
from support import REPOSITORY, working_directory


def run_by_hand(folder, *arguments):
    command = [sys.executable, str(REPOSITORY / "scripts" / "run_by_hand.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_script_gets_what_its_rule_gives_it(tmp_path):
    folder = working_directory(tmp_path / "work").folder
    done = run_by_hand(folder, "results/demo/heuristics.parquet")
    assert done.returncode == 0, done.stderr
    table = read_table("heuristics", folder / "results" / "demo" / "heuristics.parquet")
    assert len(table) == 17 and "17 heuristics" in (folder / "logs" / "demo" / "expand_heuristics.log").read_text()
    # It took no lock, and Snakemake knows nothing of it.
    assert not list((folder / ".snakemake" / "locks").glob("*"))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("results/demo/scores.parquet", "not there: results/demo/prompts.parquet"),
        ("results/demo/nothing", "results/demo/nothing"),
        ("figures", "has no script"),
    ],
)
def test_what_cannot_be_run_is_told_in_a_sentence(tmp_path, target, words):
    done = run_by_hand(working_directory(tmp_path / "work").folder, target)
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
