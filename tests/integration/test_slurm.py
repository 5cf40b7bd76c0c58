"""The workflow through a real SLURM of one node: every stage, and everything that may happen to its jobs.

`pytest tests/integration/test_slurm.py --repeat 10` does each fault ten times.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from adaptive_samplers.tables import read_table
from support import REPOSITORY, SMOKE, Workflow, absent, answers, wait_until, whole_rows, working_directory

pytestmark = [pytest.mark.pipeline, pytest.mark.model, pytest.mark.slurm]

ON_A_GPU = {
    "generate_candidates",
    "sample_with_sampler",
    "train_judge",
    "embed_candidates",
    "embed_evaluation",
    "replay_distributions",
    "probe_distributions",
}
# Rules that last seconds here share an allocation; on a cluster they are long enough for one each.
GROUPS = {
    "label_quality": "labels",
    "gather_quality": "labels",
    "label_diversity": "labels",
    "label_correctness": "labels",
    "score_candidates": "labels",
    "select_training_set": "labels",
    "summarize_selection": "labels",
    "summarize_labels": "labels",
    "train_sampler": "training",
    "label_evaluation_quality": "comparison",
    "gather_evaluation_quality": "comparison",
    "label_evaluation_diversity": "comparison",
    "label_evaluation_correctness": "comparison",
    "compare_samplers": "comparison",
}
ON_A_CPU = {"verify_candidates", "gather_evaluation", *GROUPS.values()}
ROWS = 16 * 4  # answers of a seed
SHARDS = [f"results/smoke/candidates/seed={seed}/shard=0.parquet" for seed in SMOKE["seeds"]]


def control(*command: str) -> str:
    """What a command of SLURM prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def jobs() -> dict[str, dict[str, str]]:
    """All jobs that the controller remembers, by number."""
    lines = control("scontrol", "show", "job", "--oneliner").splitlines()
    found = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines if line.startswith("JobId")]
    return {job["JobId"]: job for job in found}


def rule_of(job: dict[str, str]) -> str:
    """The rule or the group that a job runs, from the comment that Snakemake gives it."""
    name = job["Comment"].removeprefix("rule_").partition("_wildcards_")[0]
    return next((group for group in GROUPS.values() if name.startswith(f"{group}_")), name)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A running SLURM."""
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([REPOSITORY / "tests/slurm/start.sh", folder], capture_output=True, text=True, check=False)
    if started.returncode == 3:
        absent(started.stderr)
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield
    finally:
        subprocess.run([REPOSITORY / "tests/slurm/stop.sh", folder], check=True)


@pytest.fixture(scope="module")
def cluster(slurm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workflow]:
    """A finished run through SLURM, with the shipped profile and what a user fills in. Tests leave it finished."""
    work = working_directory(tmp_path_factory.mktemp("cluster") / "work")
    shutil.copytree(REPOSITORY / "slurm", work.folder / "slurm")
    place = work.folder / "slurm" / "config.yaml"
    profile = place.read_text().replace("# slurm-partition-config:", "slurm-partition-config:")
    # Few at once, because this machine is small; looked at sooner, because the jobs are short.
    settings = yaml.safe_load(profile) | {"jobs": 3, "slurm-init-seconds-before-status-checks": 3}
    settings |= {"groups": GROUPS, "group-components": {"training": 3}}
    assert settings["slurm-partition-config"] == "slurm/partitions.yaml"
    place.write_text(yaml.safe_dump(settings))
    work.profile = work.folder / "slurm"
    done = work.run()
    assert done.returncode == 0, done.stdout[-5000:]
    yield work
    # Without cgroups, this SLURM does not see the process of a killed job that lost its parent.
    for process in psutil.process_iter(["cmdline"]):
        if str(work.folder) in " ".join(process.info["cmdline"] or []):
            with suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture
def undone(cluster: Workflow, request: pytest.FixtureRequest) -> Iterator[dict[str, dict[tuple, list[int]]]]:
    """The answers of both seeds, or of those that a parameter names, of which nothing is left in the folder."""
    before = {path: answers(cluster.folder / path) for path in getattr(request, "param", SHARDS)}
    for path in before:
        (cluster.folder / path).unlink()
    yield before
    cluster.kill()
    for path, found in before.items():
        # Nothing lost, nothing there twice, and every answer the one of a run that nobody disturbed.
        assert answers(cluster.folder / path) == found
        assert len(found) == ROWS
        assert sorted(os.listdir((cluster.folder / path).parent)) == ["shard=0.parquet"]


def freeze(cluster: Workflow, shard: str, process: subprocess.Popen) -> tuple[int, str, int]:
    """Stop the generation of a shard in its midst, as if its node hung: the process, its job, and its finished rows."""
    part = cluster.folder / f"{shard}.part"
    wait_until(lambda: len(whole_rows(part)) >= 8, 300, process)
    number, job = re.match(r"process (\d+) on \S+, SLURM job (\d+)", Path(f"{part}.lock").read_text()).groups()
    os.kill(int(number), signal.SIGSTOP)
    rows = len(whole_rows(part))
    assert 8 <= rows < ROWS
    return int(number), job, rows


def environment(process: int) -> dict[str, str]:
    """The environment of a process when it was started."""
    variables = Path(f"/proc/{process}/environ").read_text().split("\0")
    return dict(variable.split("=", 1) for variable in variables if variable)


def finish(cluster: Workflow, process: subprocess.Popen) -> str:
    """Wait for Snakemake to succeed; what it wrote."""
    code = process.wait(600)
    text = (cluster.folder / "snakemake.log").read_text()
    assert code == 0, text[-5000:]
    return text


def taken_up(cluster: Workflow, shard: str) -> int:
    """How many answers the job that made a shard found finished."""
    log = cluster.folder / "logs/smoke/generate_candidates" / Path(shard).relative_to("results/smoke/candidates")
    found = re.search(rf"(\d+) of {ROWS} answers were finished before", log.with_suffix(".log").read_text())
    return int(found[1]) if found else 0


def test_every_stage_and_its_figures(cluster):
    assert cluster.result("report.html").stat().st_size > 100_000
    comparison = read_table("comparison", cluster.result("evaluation/comparison.parquet"))
    assert len(comparison["name"].unique()) == 4 + 3
    assert "Nothing to be done" in cluster.run().stdout
    for path in SHARDS:
        assert len(answers(cluster.folder / path)) == ROWS


def test_gpu_rules_get_a_gpu_and_no_other_rule_holds_one(cluster):
    done = list(jobs().values())
    assert {job["JobState"] for job in done} == {"COMPLETED"}
    assert {rule_of(job) for job in done} == ON_A_GPU | ON_A_CPU, "light rules do not go to the queue"
    for job in done:
        if rule_of(job) in ON_A_GPU:
            assert (job["Partition"], job["TresPerJob"]) == ("gpu", "gres:gpu:1")
        else:
            assert job["Partition"] == "cpu" and "TresPerJob" not in job


@pytest.mark.fault
@pytest.mark.parametrize("undone", [SHARDS[:1]], indirect=True, ids=[""])
def test_a_job_that_is_killed_by_its_time_limit_goes_on_in_the_next_one(cluster, undone):
    before, limit = set(jobs()), "generate_candidates:runtime=1 if attempt == 1 else 30"
    process = cluster.start(SHARDS[0], "--set-resources", limit, config={"generation": {"batch_size": 8}})
    frozen, first, rows = freeze(cluster, SHARDS[0], process)
    assert environment(frozen)["CUDA_VISIBLE_DEVICES"] in {"0", "1"}
    finish(cluster, process)
    found = {number: job for number, job in jobs().items() if number not in before}
    assert [job["JobState"] for job in found.values()] == ["TIMEOUT", "COMPLETED"]
    assert min(found, key=int) == first
    assert taken_up(cluster, SHARDS[0]) == rows


@pytest.mark.fault
def test_a_job_that_is_cancelled_goes_on_in_another(cluster, undone):
    before = set(jobs())
    process = cluster.start(*SHARDS, config={"generation": {"batch_size": 8}})
    part = cluster.folder / f"{SHARDS[0]}.part"
    wait_until(lambda: len(whole_rows(part)) >= 8, 300, process)
    wanted = "rule_generate_candidates_wildcards_smoke_0_0"
    [first] = [number for number, job in jobs().items() if number not in before and job["Comment"] == wanted]
    control("scancel", first)
    rows = whole_rows(part)
    finish(cluster, process)
    found = {number: job for number, job in jobs().items() if number not in before}
    assert found[first]["JobState"] == "CANCELLED"
    assert sorted(job["JobState"] for job in found.values()) == ["CANCELLED", "COMPLETED", "COMPLETED"]
    assert len(rows) <= taken_up(cluster, SHARDS[0]) < ROWS


@pytest.mark.fault
def test_a_killed_snakemake_is_not_followed_by_duplicates(cluster, undone):
    change = {"generation": {"batch_size": 8}}
    process = cluster.start(*SHARDS, config=change)
    _, job, rows = freeze(cluster, SHARDS[0], process)
    process.kill()
    process.wait()
    assert jobs()[job]["JobState"] == "RUNNING", "jobs live on"
    locked = cluster.run(*SHARDS, config=change)
    assert locked.returncode != 0 and "--unlock" in locked.stdout
    assert cluster.run("--unlock", config=change).returncode == 0
    before = set(jobs())
    refused = cluster.run(*SHARDS, config=change)
    assert refused.returncode != 0
    assert f"{job} (running" in refused.stdout and "python scripts/cancel_jobs.py smoke" in refused.stdout
    assert "Traceback" not in refused.stdout
    assert set(jobs()) == before, "nothing is submitted twice"
    cancel = [sys.executable, str(REPOSITORY / "scripts" / "cancel_jobs.py")]
    assert "0 jobs" in subprocess.run([*cancel, "other"], cwd=cluster.folder, capture_output=True, text=True).stdout
    done = subprocess.run([*cancel, "smoke"], cwd=cluster.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and f"cancelled {job} (running" in done.stdout
    assert jobs()[job]["JobState"] == "CANCELLED"
    again = cluster.run(*SHARDS, config=change)
    assert again.returncode == 0, again.stdout
    assert taken_up(cluster, SHARDS[0]) == rows


@pytest.mark.fault
def test_what_jobs_finished_while_snakemake_was_dead_is_not_done_again(cluster, undone):
    process = cluster.start(*SHARDS)
    wait_until(lambda: all((cluster.folder / f"{path}.part").exists() for path in SHARDS), 300, process)
    running = [number for number, job in jobs().items() if job["JobState"] == "RUNNING"]
    process.kill()
    process.wait()
    wait_until(lambda: {jobs()[number]["JobState"] for number in running} == {"COMPLETED"}, 300)
    assert cluster.run("--unlock").returncode == 0
    again = cluster.run(*SHARDS)
    assert again.returncode == 0, again.stdout
    # Jobs record by themselves that their output is whole.
    assert "Nothing to be done" in again.stdout


@pytest.mark.fault
def test_a_node_that_is_drained_or_fails_and_comes_back(cluster, undone):
    before, node = set(jobs()), control("sinfo", "--noheader", "--format", "%n", "--partition", "cpu").strip()
    control("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    process = cluster.start(*SHARDS, config={"generation": {"batch_size": 8}})
    try:
        waiting = wait_until(lambda: set(jobs()) - before, 120, process)
        assert {jobs()[number]["JobState"] for number in waiting} == {"PENDING"}
        control("scontrol", "update", f"nodename={node}", "state=resume")
        part = cluster.folder / f"{SHARDS[0]}.part"
        wait_until(lambda: len(whole_rows(part)) >= 8, 300, process)
        control("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        rows = whole_rows(part)
    finally:
        # SLURM refuses this for a node that is up already, which it is where something above failed.
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], capture_output=True, check=False)
    # What ran there is in the queue again, where SLURM lets it wait for two minutes.
    finish(cluster, process)
    assert len(rows) <= taken_up(cluster, SHARDS[0]) < ROWS
