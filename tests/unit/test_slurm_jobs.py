"""Jobs that an earlier Snakemake left in SLURM, with a pretend SLURM; the real one is in tests/integration."""

import os

import pytest

from adaptive_samplers import slurm
from adaptive_samplers.errors import UserError
from adaptive_samplers.slurm import cancel_jobs, live_jobs, refuse_duplicates, submitted_targets

SCRIPT = """#!/bin/sh
# This script was created by sbatch --wrap.

/venv/bin/python -m snakemake --snakefile '/w/Snakefile' --target-jobs {targets} --allowed-rules 'a' 'b' --cores all
"""
GENERATE = "generate_candidates:run=demo,seed={},shard=0"


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """A folder of jobs that squeue, scontrol and scancel see: `7` holds a line of squeue, `7.sh` the script."""
    programs, jobs = tmp_path / "bin", tmp_path / "jobs"
    programs.mkdir()
    jobs.mkdir()
    for name, body in {
        "squeue": 'cat /dev/null $(ls -d "$JOBS"/* | grep -v sh$)',
        "scontrol": 'cat "$JOBS/$3.sh"',
        "scancel": 'for job in "$@"; do rm "$JOBS/$job"; done',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("JOBS", str(jobs))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def submit(number, folder, *targets):
        (jobs / number).write_text(f"{number}|RUNNING|1:02|{folder}\n")
        words = " ".join(f"'{target}'" for target in targets)
        (jobs / f"{number}.sh").write_text(SCRIPT.format(targets=words) if targets else "#!/bin/sh\nsleep 1\n")

    return submit


def test_targets_of_jobs_of_groups_and_of_other_scripts():
    assert submitted_targets(SCRIPT.format(targets="'a:run=x,seed=0'")) == ("a:run=x,seed=0",)
    assert submitted_targets(SCRIPT.format(targets="'a:run=x' 'b:run=x'")) == ("a:run=x", "b:run=x")
    assert submitted_targets("python -m snakemake --target-jobs 'a:run=x'") == ("a:run=x",)
    assert submitted_targets("#!/bin/sh\nsleep 10\n") == ()


def test_only_what_is_wanted_here_is_refused(queue, tmp_path):
    queue("1", tmp_path, GENERATE.format(0))
    queue("2", tmp_path, GENERATE.format(1))
    queue("3", "/elsewhere", GENERATE.format(2))
    queue("4", tmp_path)
    assert {job.number for job in live_jobs(tmp_path)} == {"1", "2"}
    refuse_duplicates(tmp_path, [GENERATE.format(2), "verify_candidates:run=demo"])
    with pytest.raises(UserError) as caught:
        refuse_duplicates(tmp_path, [GENERATE.format(1), GENERATE.format(2)])
    words = str(caught.value)
    assert words.startswith("1 jobs of an earlier Snakemake")
    assert "2 (running, 1:02) generate_candidates:run=demo,seed=1,shard=0" in words
    assert "python scripts/cancel_jobs.py demo" in words


def test_a_group_with_one_wanted_job_is_refused_and_a_long_list_is_cut(queue, tmp_path):
    queue("7", tmp_path, "a:run=demo", "b:run=demo")
    with pytest.raises(UserError, match="7 \\(running, 1:02\\) a:run=demo b:run=demo"):
        refuse_duplicates(tmp_path, ["b:run=demo"])
    for number in range(20, 20 + slurm.LISTED):
        queue(str(number), tmp_path, GENERATE.format(number))
    with pytest.raises(UserError, match=r"11 jobs of(.*\n){11}  \.\.\. and 1 more\n"):
        refuse_duplicates(tmp_path, ["b:run=demo", *(GENERATE.format(number) for number in range(20, 30))])


def test_cancelling_takes_one_run_of_one_folder(queue, tmp_path):
    queue("1", tmp_path, GENERATE.format(0))
    queue("2", tmp_path, "a:run=demo_2", "b:run=demo_2")
    queue("3", "/elsewhere", GENERATE.format(0))
    queue("4", tmp_path, "a:run=demo,sampler_generation=sampler_generation=2/,seed=0")
    assert [job.number for job in cancel_jobs(tmp_path, "demo")] == ["1", "4"]
    assert [job.number for job in live_jobs(tmp_path)] == ["2"]
    assert cancel_jobs(tmp_path, "demo") == []


def test_jobs_that_do_not_end_are_named(queue, tmp_path):
    queue("1", tmp_path, GENERATE.format(0))
    (tmp_path / "bin" / "scancel").write_text("#!/bin/sh\n")
    with pytest.raises(UserError, match="these jobs do not end: 1 "):
        cancel_jobs(tmp_path, "demo", patience=0)


def test_without_slurm_or_an_answer_of_it_nothing_is_refused(queue, tmp_path, monkeypatch, capsys):
    queue("1", tmp_path, GENERATE.format(0))
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\nexit 1\n")
    refuse_duplicates(tmp_path, [GENERATE.format(0)])
    assert "squeue does not answer" in capsys.readouterr().err
    monkeypatch.setattr(slurm.shutil, "which", lambda name: None)
    refuse_duplicates(tmp_path, [GENERATE.format(0)])
    assert capsys.readouterr().err == ""
