"""Snakemake's locks that a killed one left, and jobs that outlive it; the whole workflow is in tests/integration."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from adaptive_samplers import locks, restarts
from adaptive_samplers.errors import UserError
from support import REPOSITORY

SIGN_IN = """
import sys, time
from adaptive_samplers.restarts import sign_in
sign_in(sys.argv[1], patience=float(sys.argv[2]))
print("signed in", flush=True)
sys.stdin.read()
"""
JOB = """
import sys
from types import SimpleNamespace
from adaptive_samplers.stage import run_stage

def main(snakemake):
    print("at work", file=sys.stderr, flush=True)
    print("started", flush=True)
    sys.stdin.read()

run_stage(main, SimpleNamespace(log=[sys.argv[1]], threads=1, resources={}, rule="one"), *map(float, sys.argv[2:]))
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Processes in a working directory of their own, which end when the test does."""
    monkeypatch.chdir(tmp_path)
    started = []

    def begin(code, *arguments):
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", code, *map(str, arguments)],
                env={**os.environ, "PYTHONPATH": str(REPOSITORY / "scripts")},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def end(process):
    """Let a process end by itself; what it said."""
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return said


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def write_lock(name, *lines):
    """A lock file as Snakemake writes it."""
    path = Path(".snakemake/locks") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def left(start):
    """The lock files that a killed Snakemake left."""
    first = start(SIGN_IN, "mine", 0)
    assert first.stdout.readline() == "signed in\n"
    lock_files = [
        write_lock("0.input.lock", "resources/prompts.jsonl", "results/mine/prompts.parquet", ""),
        write_lock("0.output.lock", "results/mine/prompts.parquet", "results/mine/candidates.parquet", "results/mi"),
    ]
    kill(first)
    assert len(list(Path(".snakemake/at_work/mine").iterdir())) == 1
    return lock_files


def test_the_locks_of_a_killed_snakemake_are_deleted_with_those_of_no_other_run(start, left):
    others = [
        write_lock("1.input.lock", "results/mine/prompts.parquet", "results/other/prompts.parquet", ""),
        write_lock("1.output.lock", "results/other/prompts.parquet", ""),
        write_lock("2.output.lock", "elsewhere/mine/prompts.parquet", "results/plan.json", ""),
    ]
    said = end(start(SIGN_IN, "mine", 0))
    assert [path.exists() for path in left] == [False, False]
    assert all(path.exists() for path in others)
    assert said == "The Snakemake that was last at work on mine was killed. This one goes on where it stopped.\n"
    assert list(Path(".snakemake/at_work/mine").iterdir()) == [], "whoever ended by itself leaves nothing"
    assert end(start(SIGN_IN, "mine", 0)) == ""


def test_the_locks_stay_while_another_one_is_at_work_on_the_run(start, left):
    second = start(SIGN_IN, "mine", 0)
    assert second.stdout.readline() == "signed in\n"
    third = write_lock("0.output.lock", "results/mine/candidates.parquet", "")
    said = end(start(SIGN_IN, "mine", 0.1))
    assert third.exists()
    assert said.startswith(
        f"Another Snakemake is at work on mine: process {second.pid} on {os.uname().nodename}, since "
    )
    assert said.count("process") == 1, "the dead one is not named"
    # One that works on another run is in nobody's way.
    assert end(start(SIGN_IN, "other", 0)) == ""
    assert third.exists()


def test_one_that_is_about_to_end_is_waited_for(start, left):
    second = start(SIGN_IN, "mine", 0)
    assert second.stdout.readline() == "signed in\n"
    lock_file = write_lock("0.output.lock", "results/mine/candidates.parquet", "")
    third = start(SIGN_IN, "mine", 60)
    with pytest.raises(subprocess.TimeoutExpired):
        third.wait(3)
    kill(second)
    assert "was killed" in end(third)
    assert not lock_file.exists()


def test_where_nobody_can_tell_a_sentence_says_what_to_type(left, monkeypatch, capsys):
    def refuse(*arguments):
        raise OSError(locks.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "lockf", refuse)
    monkeypatch.setattr(restarts.atexit, "register", lambda function: function)
    monkeypatch.setattr(sys, "argv", ["/venv/bin/snakemake", "figures", "--configfile", "my run.yaml"])
    restarts.sign_in("mine", patience=0)
    said = capsys.readouterr().err
    assert "If no other one runs, type: snakemake --unlock figures --configfile 'my run.yaml'\n" in said
    assert all(path.exists() for path in left)
    Path("a.log.lock").touch()
    restarts.refuse_living_jobs(["a.log"], patience=0)


def test_jobs_that_live_are_refused_by_their_logs_and_dead_ones_are_not(start, tmp_path):
    job = start(JOB, "one.log")
    assert job.stdout.readline() == "started\n"
    with pytest.raises(UserError) as caught:
        restarts.refuse_living_jobs(["one.log", "two.log"], patience=0)
    words = str(caught.value)
    assert words.startswith("1 jobs of an earlier Snakemake are still running")
    assert f"  process {job.pid} on " in words and words.count("one.log") == 1 and "two.log" not in words
    kill(job)
    assert Path("one.log.lock").exists()
    restarts.refuse_living_jobs(["one.log", "two.log"], patience=0)
    assert [path.name for path in tmp_path.iterdir()] == ["one.log"]


def test_the_second_job_of_two_with_one_log_says_who_has_it_and_leaves_it_alone(start, tmp_path):
    first = start(JOB, "one.log")
    assert first.stdout.readline() == "started\n"
    second = start(JOB, "one.log", 0.2)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 1
    assert f"error in rule one: one.log is being written by process {first.pid} on " in said and "Traceback" not in said
    assert Path("one.log").read_text() == "at work\n"
    end(first)
    assert [path.name for path in tmp_path.iterdir()] == ["one.log"]
