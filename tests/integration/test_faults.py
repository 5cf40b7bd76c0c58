"""What goes wrong on any machine: full disks, damaged files, two runs at once. No answer is lost or there twice.

`pytest tests/integration/test_faults.py --repeat 10` does each fault ten times. Jobs of SLURM: test_slurm.py.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import Workflow, absent, answers, freeze_generation, tiny_run, wait_until, whole_rows

pytestmark = [pytest.mark.pipeline, pytest.mark.fault]

SHARD = "results/tiny/candidates/seed=0/shard=0.parquet"
LOG = "logs/tiny/generate_candidates/seed=0/shard=0.log"
CANDIDATES = "results/tiny/candidates.parquet"
PROMPTS, HEURISTICS = 16, 4


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Workflow:
    """Answers of a tiny model to short prompts, verified."""
    work = tiny_run(
        tmp_path_factory.mktemp("faults") / "finished",
        tiny_model_folder,
        [{"prompt": f"Write {i}.", "kind": "creative"} for i in range(200)],
        ("prompts.per_kind", {"train": 8, "validation": 4, "test": 4}),
        ("generation.batch_size", 4),
    )
    done = work.run(CANDIDATES)
    assert done.returncode == 0, done.stdout[-5000:]
    assert len(answers(work.folder / SHARD)) == PROMPTS * HEURISTICS
    return work


@pytest.fixture
def work(finished: Workflow, tmp_path: Path) -> Iterator[Workflow]:
    """A copy of the finished run, without its answers."""
    folder = tmp_path / "work"
    shutil.copytree(finished.folder, folder, symlinks=True)
    (folder / SHARD).unlink()
    (folder / CANDIDATES).unlink()
    copy = Workflow(folder, base=finished.base)
    yield copy
    copy.kill()


def unharmed(work: Workflow, finished: Workflow) -> bool:
    """Whether the answers are those of a run that nobody disturbed, each there once, with nothing left beside them."""
    found = answers(work.folder / SHARD)
    assert os.listdir((work.folder / SHARD).parent) == [Path(SHARD).name]
    return found == answers(finished.folder / SHARD) and len(found) == PROMPTS * HEURISTICS


def freeze(work: Workflow, process: subprocess.Popen) -> tuple[int, int]:
    """Stop a generation in its midst: its process, and how many rows are finished."""
    number, rows = freeze_generation(work.folder / f"{SHARD}.part", process)
    return number, len(rows)


def test_a_second_run_in_the_same_folder_is_refused(work, finished):
    first = work.start(SHARD)
    number, rows = freeze(work, first)
    second = work.run(SHARD)
    assert second.returncode != 0
    assert "cannot be locked" in second.stdout and "no other Snakemake process" in second.stdout
    assert f"Another Snakemake is at work on tiny: process {first.pid} on {os.uname().nodename}, " in second.stdout
    assert len(whole_rows(work.folder / f"{SHARD}.part")) == rows < PROMPTS * HEURISTICS
    os.kill(number, signal.SIGCONT)
    assert first.wait(300) == 0
    assert unharmed(work, finished)


def test_a_second_run_that_passes_over_the_lock_waits_and_takes_what_the_first_one_made(work, finished):
    first = work.start(SHARD)
    number, rows = freeze(work, first)
    log = work.folder / LOG
    second, told = work.start(SHARD, "--nolock"), work.folder / "snakemake.log"
    wait_until(lambda: f"{LOG} is being written by process {number} on " in told.read_text(), 300, second)
    assert len(whole_rows(work.folder / f"{SHARD}.part")) == rows < PROMPTS * HEURISTICS
    os.kill(number, signal.SIGCONT)
    assert (first.wait(300), second.wait(300)) == (0, 0)
    assert f"{PROMPTS * HEURISTICS} of {PROMPTS * HEURISTICS} answers were finished before" in log.read_text()
    assert unharmed(work, finished)


def goes_on(work: Workflow, rows: int) -> bool:
    """Whether the run starts again as it was, without a word about locks, and takes up the rows that are there."""
    again = work.run(SHARD)
    assert again.returncode == 0, again.stdout
    assert "lock" not in again.stdout.lower()
    assert "The Snakemake that was last at work on tiny was killed." in again.stdout
    return f"{rows} of {PROMPTS * HEURISTICS} answers were finished before" in again.stdout


def test_a_run_that_was_killed_starts_again_without_a_word_about_locks(work, finished):
    _, rows = freeze(work, work.start(SHARD))
    work.kill()
    assert list((work.folder / ".snakemake/locks").glob("*.lock")), "Snakemake leaves its locks"
    assert goes_on(work, rows)
    assert unharmed(work, finished)
    assert not list((work.folder / ".snakemake").glob("*/**/*.lock"))
    assert not list((work.folder / "logs").rglob("*.lock"))


def test_a_job_that_outlives_snakemake_is_named_and_not_doubled(work, finished):
    first = work.start(SHARD)
    number, rows = freeze(work, first)
    first.kill()
    first.wait()
    refused = work.run(SHARD)
    assert refused.returncode != 0
    assert "1 jobs of an earlier Snakemake are still running" in refused.stdout
    assert re.search(rf"  process {number} on .*: {LOG}\n", refused.stdout)
    assert "Traceback" not in refused.stdout and "cannot be locked" not in refused.stdout
    assert len(whole_rows(work.folder / f"{SHARD}.part")) == rows
    os.kill(number, signal.SIGKILL)
    again = work.run(SHARD)
    assert again.returncode == 0, again.stdout
    assert f"{rows} of {PROMPTS * HEURISTICS} answers were finished before" in again.stdout
    assert unharmed(work, finished)


@pytest.fixture
def small_disk(work: Workflow) -> Iterator[Path]:
    """A disk of three pages where the answers go."""
    place = (work.folder / SHARD).parent
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12k", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        absent(f"a small disk cannot be mounted, which takes root: {mounted.stderr}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_disk_that_fills_up_is_named_and_costs_no_answer(work, finished, small_disk):
    part = work.folder / f"{SHARD}.part"
    failed = work.run(SHARD)
    assert failed.returncode != 0
    assert f"{SHARD}.part could not be written: no space is left on the disk" in failed.stdout
    assert "df -h" in failed.stdout and "Traceback" not in failed.stdout
    rows = whole_rows(part)
    assert 0 < len(rows) < PROMPTS * HEURISTICS
    # Still full: it fails again, and loses nothing.
    assert work.run(SHARD).returncode != 0
    assert whole_rows(part) == rows
    subprocess.run(["mount", "-o", "remount,size=10m", small_disk], check=True)
    done = work.run(SHARD)
    assert done.returncode == 0, done.stdout
    assert f"{len(rows)} of {PROMPTS * HEURISTICS} answers were finished before" in done.stdout
    assert unharmed(work, finished)


def truncate(path: Path) -> None:
    """Leave the first half of a file."""
    os.truncate(path, path.stat().st_size // 2)


def test_a_truncated_shard_is_named_and_made_again(work, finished):
    assert work.run(SHARD).returncode == 0
    truncate(work.folder / SHARD)
    failed = work.run(CANDIDATES)
    assert failed.returncode != 0
    assert f"{SHARD}: cannot be read as a 'candidates' table" in failed.stdout
    assert "delete it and run again" in failed.stdout and "Traceback" not in failed.stdout
    (work.folder / SHARD).unlink()
    done = work.run(CANDIDATES)
    assert done.returncode == 0, done.stdout
    assert unharmed(work, finished)
    assert answers(work.folder / CANDIDATES) == answers(finished.folder / CANDIDATES)


def test_a_generation_does_not_trip_over_the_truncated_shard_that_it_replaces(work, finished):
    assert work.run(SHARD).returncode == 0
    truncate(work.folder / SHARD)
    done = work.run(SHARD, "--forcerun", "generate_candidates")
    assert done.returncode == 0, done.stdout
    assert f"{SHARD} is damaged" in done.stdout
    assert unharmed(work, finished)
