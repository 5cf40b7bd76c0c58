"""The workflow through a real SLURM of three nodes: every stage, and everything that may happen to its jobs and nodes.

`pytest tests/integration/test_slurm.py --repeat 10` does each fault ten times.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from adaptive_samplers.tables import read_table
from support import (
    REPOSITORY,
    SMOKE,
    Workflow,
    absent,
    answers,
    changed,
    tiny_run,
    wait_until,
    whole_rows,
    working_directory,
)
from tiny_model import write_tiny_model

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
GPU_NODES, CPU_NODES = {"gpu1", "gpu2"}, {"cpu1"}

# Faults happen to the answers of a tiny model, four jobs of them: as many as the nodes have GPUs.
SEEDS, SHARDS, PROMPTS, HEURISTICS = (0, 1), (0, 1), 32, 4
ROWS = PROMPTS // len(SHARDS) * HEURISTICS  # answers of a job
ANSWERS = [f"results/tiny/candidates/seed={seed}/shard={shard}.parquet" for seed in SEEDS for shard in SHARDS]
# So that a job can be caught in its midst; no answer depends on it.
SLOWLY = {"generation": {"batch_size": 1}}


def control(*command: str) -> str:
    """What a command of SLURM prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def jobs(work: Workflow) -> dict[str, dict[str, str]]:
    """All jobs of a folder that the controller remembers, by number, in the order of their submission."""
    lines = control("scontrol", "show", "job", "--details", "--oneliner").splitlines()
    found = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines if line.startswith("JobId")]
    return {job["JobId"]: job for job in found if job["WorkDir"] == str(work.folder)}


def rule_of(job: dict[str, str]) -> str:
    """The rule or the group that a job runs, from the comment that Snakemake gives it."""
    name = job["Comment"].removeprefix("rule_").partition("_wildcards_")[0]
    return next((group for group in GROUPS.values() if name.startswith(f"{group}_")), name)


@dataclass(frozen=True)
class Cluster:
    """A running SLURM of three nodes, with its files in a folder."""

    folder: Path

    def state(self, node: str) -> set[str]:
        """How the controller sees a node, in words like DOWN and NOT_RESPONDING."""
        return set(re.search(r"State=(\S+)", control("scontrol", "show", "node", node))[1].split("+"))

    def set_state(self, node: str, state: str) -> None:
        """What administrators do."""
        control("scontrol", "update", f"nodename={node}", f"state={state}", "reason=test")

    def cut_power(self, node: str) -> None:
        """End a node's daemon and all that its jobs have started, none of which may say goodbye to anybody."""
        here = control("squeue", "--noheader", "--nodelist", node, "--format", "%i").split()
        steps = [
            process
            for process in psutil.process_iter(["cmdline"])
            if any(" ".join(process.info["cmdline"] or []).startswith(f"slurmstepd: [{job}.") for job in here)
        ]
        doomed = [psutil.Process(int((self.folder / "run" / f"{node}.pid").read_text())), *steps]
        doomed += [process for step in steps for process in step.children(recursive=True)]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in doomed:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)

    def power_on(self, node: str) -> None:
        """Start the daemon of a node."""
        control("slurmd", "-N", node)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running SLURM. Tests leave all its nodes in service, or the next one fails."""
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([REPOSITORY / "tests/slurm/start.sh", folder], capture_output=True, text=True, check=False)
    if started.returncode == 3:
        absent(started.stderr)
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield Cluster(folder)
    finally:
        subprocess.run([REPOSITORY / "tests/slurm/stop.sh", folder], check=True)


def through_slurm(work: Workflow, **settings: Any) -> Workflow:
    """The same workflow, with the shipped profile and what a user fills in."""
    shutil.copytree(REPOSITORY / "slurm", work.folder / "slurm")
    place = work.folder / "slurm" / "config.yaml"
    profile = yaml.safe_load(place.read_text().replace("# slurm-partition-config:", "slurm-partition-config:"))
    assert profile["slurm-partition-config"] == "slurm/partitions.yaml"
    place.write_text(yaml.safe_dump(profile | settings))
    return Workflow(
        work.folder, work.folder / "slurm", work.base, (str(REPOSITORY / "tests/slurm/impatient_snakemake.py"),)
    )


def leave(work: Workflow) -> None:
    """End what still runs in a folder: without cgroups, SLURM loses sight of a killed job's orphans."""
    work.kill()
    for process in psutil.process_iter(["cmdline"]):
        if str(work.folder) in " ".join(process.info["cmdline"] or []):
            with suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture(scope="module")
def smoke(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workflow]:
    """A finished smoke run through SLURM, of a tiny language model: this is about jobs, not about answers."""
    place = tmp_path_factory.mktemp("smoke")
    write_tiny_model(place / "model", context=2048)
    work = working_directory(place / "work")
    source = {"kind": "folder", "path": str(place / "model")}
    work.base = place / "smoke.yaml"
    work.base.write_text(yaml.safe_dump(changed(SMOKE, ("model.name", "tiny"), ("model.source", source))))
    # Few jobs at once, because this machine is small.
    work = through_slurm(work, jobs=3, groups=GROUPS, **{"group-components": {"training": 3}})
    done = work.run()
    assert done.returncode == 0, done.stdout[-5000:]
    yield work
    leave(work)


@pytest.fixture(scope="module")
def tiny(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Workflow:
    """All answers of a tiny model, generated through SLURM by jobs that nobody disturbed."""
    work = tiny_run(
        tmp_path_factory.mktemp("tiny") / "work",
        tiny_model_folder,
        [{"prompt": f"Write {i}.", "kind": "creative"} for i in range(200)],
        ("prompts.per_kind", {"train": 16, "validation": 8, "test": 8}),
        ("generation.shards", len(SHARDS)),
        ("generation.max_new_tokens", 32),
    )
    work = through_slurm(work)
    done = work.run(*ANSWERS)
    assert done.returncode == 0, done.stdout[-5000:]
    return work


@pytest.fixture
def work(tiny: Workflow, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Workflow]:
    """A copy of the tiny run without the answers that a parameter names; in the end they must be there again."""
    wanted = request.param
    copy = Workflow(tmp_path / "work", tmp_path / "work" / "slurm", tiny.base, tiny.snakemake)
    shutil.copytree(tiny.folder, copy.folder, symlinks=True)
    for path in wanted:
        (copy.folder / path).unlink()
    yield copy
    leave(copy)
    for path in wanted:
        found = answers(copy.folder / path)
        # Nothing lost, nothing there twice, and every answer the one of a run that nobody disturbed.
        assert found == answers(tiny.folder / path)
        assert len(found) == ROWS
        assert not [name for name in os.listdir((copy.folder / path).parent) if not name.endswith(".parquet")]


def made(count: int) -> pytest.MarkDecorator:
    """A test in whose folder so many of the jobs' answers are to be made."""
    return pytest.mark.parametrize("work", [ANSWERS[:count]], indirect=True, ids=[""])


@dataclass(frozen=True)
class Frozen:
    """A generation that was stopped in its midst, as if its node hung."""

    process: int
    job: str
    rows: int

    def thaw(self) -> None:
        os.kill(self.process, signal.SIGCONT)


def freeze(work: Workflow, paths: Sequence[str], process: subprocess.Popen) -> list[Frozen]:
    """Stop the generation of each of these answers, when some of them are there and most are not."""
    frozen: dict[str, Frozen] = {}

    def look() -> bool:
        for path in paths:
            part = work.folder / f"{path}.part"
            if path not in frozen and len(whole_rows(part)) >= 8:
                lock = Path(f"{part}.lock").read_text()
                number, job = re.match(r"process (\d+) on \S+, SLURM job (\d+)", lock).groups()
                os.kill(int(number), signal.SIGSTOP)
                frozen[path] = Frozen(int(number), job, len(whole_rows(part)))
                assert 8 <= frozen[path].rows < ROWS
        return len(frozen) == len(paths)

    wait_until(look, 300, process)
    return [frozen[path] for path in paths]


def environment(process: int) -> dict[str, str]:
    """The environment of a process when it was started."""
    variables = Path(f"/proc/{process}/environ").read_text().split("\0")
    return dict(variable.split("=", 1) for variable in variables if variable)


def finish(work: Workflow, process: subprocess.Popen) -> str:
    """Wait for Snakemake to succeed; what it wrote."""
    code = process.wait(600)
    text = (work.folder / "snakemake.log").read_text()
    assert code == 0, text[-5000:]
    return text


def taken_up(work: Workflow, path: str) -> int:
    """How many answers the job that made a table of them found finished."""
    log = work.folder / "logs/tiny/generate_candidates" / Path(path).relative_to("results/tiny/candidates")
    found = re.search(rf"(\d+) of {ROWS} answers were finished before", log.with_suffix(".log").read_text())
    return int(found[1]) if found else 0


def test_every_stage_and_its_figures(smoke):
    assert smoke.result("report.html").stat().st_size > 100_000
    comparison = read_table("comparison", smoke.result("evaluation/comparison.parquet"))
    assert len(comparison["name"].unique()) == 4 + 3
    assert "Nothing to be done" in smoke.run().stdout
    for seed in SMOKE["seeds"]:
        assert len(answers(smoke.result(f"candidates/seed={seed}/shard=0.parquet"))) == 16 * 4


def test_gpu_rules_get_a_gpu_node_and_a_gpu_and_no_other_rule_does(smoke):
    done = list(jobs(smoke).values())
    assert {job["JobState"] for job in done} == {"COMPLETED"}
    assert {rule_of(job) for job in done} == ON_A_GPU | ON_A_CPU, "light rules do not go to the queue"
    for job in done:
        if rule_of(job) in ON_A_GPU:
            assert (job["Partition"], job["TresPerJob"], job["JOB_GRES"]) == ("gpu", "gres:gpu:1", "gpu:pretend:1")
            assert job["NodeList"] in GPU_NODES
        else:
            assert job["Partition"] == "cpu" and "TresPerJob" not in job and job["JOB_GRES"] == "(null)"
            assert job["NodeList"] in CPU_NODES


def test_jobs_that_are_there_at_once_are_spread_over_the_nodes(tiny):
    done = jobs(tiny).values()
    assert {job["JobState"] for job in done} == {"COMPLETED"}
    assert Counter(job["NodeList"] for job in done) == dict.fromkeys(GPU_NODES, 2)
    assert max(job["StartTime"] for job in done) < min(job["EndTime"] for job in done), "all ran at once"


@pytest.mark.fault
@made(2)
def test_jobs_that_are_killed_by_their_time_limit_or_cancelled_go_on_in_others(work):
    limit = "generate_candidates:runtime=1 if attempt == 1 else 30"
    process = work.start(*ANSWERS[:2], "--set-resources", limit, config=SLOWLY)
    late, cancelled = freeze(work, ANSWERS[:2], process)
    # Its minute is over, says the controller, which looks for such jobs twice a minute.
    control("scontrol", "update", f"jobid={late.job}", "endtime=now")
    cancelled.thaw()
    control("scancel", cancelled.job)
    finish(work, process)
    again = jobs(work)
    first = [again.pop(late.job), again.pop(cancelled.job)]
    assert [(job["JobState"], job["TimeLimit"]) for job in first] == [
        ("TIMEOUT", "00:01:00"),
        ("CANCELLED", "00:01:00"),
    ]
    assert [(job["JobState"], job["TimeLimit"]) for job in again.values()] == [("COMPLETED", "00:30:00")] * 2
    assert taken_up(work, ANSWERS[0]) == late.rows
    assert cancelled.rows <= taken_up(work, ANSWERS[1]) < ROWS


@pytest.mark.fault
@made(2)
def test_a_killed_snakemake_is_not_followed_by_duplicates(work):
    wanted = ANSWERS[:2]
    process = work.start(*wanted, config=SLOWLY)
    [frozen] = freeze(work, wanted[:1], process)
    process.kill()
    process.wait()
    assert jobs(work)[frozen.job]["JobState"] == "RUNNING", "jobs live on"
    before = set(jobs(work))
    refused = work.run(*wanted, config=SLOWLY)
    assert refused.returncode != 0
    assert f"{frozen.job} (running" in refused.stdout and "python scripts/cancel_jobs.py tiny" in refused.stdout
    assert "Traceback" not in refused.stdout and "cannot be locked" not in refused.stdout
    assert set(jobs(work)) == before, "nothing is submitted twice"
    cancel = [sys.executable, str(REPOSITORY / "scripts" / "cancel_jobs.py")]
    assert "0 jobs" in subprocess.run([*cancel, "other"], cwd=work.folder, capture_output=True, text=True).stdout
    done = subprocess.run([*cancel, "tiny"], cwd=work.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and f"cancelled {frozen.job} (running" in done.stdout
    assert jobs(work)[frozen.job]["JobState"] == "CANCELLED"
    again = work.run(*wanted, config=SLOWLY)
    assert again.returncode == 0, again.stdout
    # What is cancelled is woken up to end, and may finish an answer that it had begun.
    assert frozen.rows <= taken_up(work, wanted[0]) < ROWS


@pytest.mark.fault
@made(2)
def test_what_jobs_finished_while_snakemake_was_dead_is_not_done_again(work):
    wanted = ANSWERS[:2]
    process = work.start(*wanted, config=SLOWLY)
    frozen = freeze(work, wanted, process)
    process.kill()
    process.wait()
    for generation in frozen:
        generation.thaw()
    wait_until(lambda: {jobs(work)[generation.job]["JobState"] for generation in frozen} == {"COMPLETED"}, 300)
    again = work.run(*wanted)
    assert again.returncode == 0, again.stdout
    # Jobs record by themselves that their output is whole.
    assert "Nothing to be done" in again.stdout


@pytest.mark.fault
@made(2)
def test_a_node_that_is_drained_or_fails_and_comes_back(slurm, work):
    for node in GPU_NODES:
        slurm.set_state(node, "drain")
    process = work.start(*ANSWERS[:2], config=SLOWLY)
    try:
        waiting = wait_until(lambda: jobs(work), 300, process)
        assert {job["JobState"] for job in waiting.values()} == {"PENDING"}
        for node in GPU_NODES:
            slurm.set_state(node, "resume")
        part = work.folder / f"{ANSWERS[0]}.part"
        wait_until(lambda: len(whole_rows(part)) >= 8, 300, process)
        [first] = [job for job in jobs(work).values() if job["Comment"].endswith("_0_0")]
        slurm.set_state(first["NodeList"], "down")
        rows = whole_rows(part)
        # What ran there is in the queue again, and goes on elsewhere.
        finish(work, process)
    finally:
        for node in GPU_NODES:
            if slurm.state(node) & {"DRAIN", "DOWN"}:
                slurm.set_state(node, "resume")
    again = jobs(work)[first["JobId"]]
    assert again["Restarts"] == "1" and again["NodeList"] in GPU_NODES - {first["NodeList"]}
    assert len(rows) <= taken_up(work, ANSWERS[0]) < ROWS


@pytest.mark.fault
@made(4)
def test_a_node_that_dies_loses_nothing_and_is_used_when_it_is_back(slurm, work):
    process = work.start(*ANSWERS, config=SLOWLY)
    frozen = dict(zip(ANSWERS, freeze(work, ANSWERS, process), strict=True))

    def job_of(path: str) -> dict[str, str]:
        return jobs(work)[frozen[path].job]

    dying, staying = ([path for path in ANSWERS if job_of(path)["NodeList"] == node] for node in ("gpu1", "gpu2"))
    for paths in (dying, staying):
        assert {environment(frozen[path].process)["CUDA_VISIBLE_DEVICES"] for path in paths} == {"0", "1"}
        assert len(paths) == 2
    slurm.cut_power("gpu1")
    try:
        wait_until(lambda: slurm.state("gpu1") == {"DOWN", "NOT_RESPONDING"}, 300, process)
        assert {job_of(path)["JobState"] for path in dying} == {"PENDING"}
        # A GPU of the other node is free now: one of the two jobs goes on there, and one finds no place.
        frozen[staying[0]].thaw()
        [elsewhere] = wait_until(
            lambda: [path for path in dying if job_of(path)["JobState"] == "RUNNING"], 300, process
        )
        [waiting] = set(dying) - {elsewhere}
        assert job_of(elsewhere)["NodeList"] == "gpu2" and job_of(waiting)["JobState"] == "PENDING"
    finally:
        slurm.power_on("gpu1")
    wait_until(lambda: job_of(waiting)["NodeList"] == "gpu1", 300, process)
    frozen[staying[1]].thaw()
    finish(work, process)
    assert {job["JobState"] for job in jobs(work).values()} == {"COMPLETED"} and len(jobs(work)) == 4
    for path in ANSWERS:
        assert job_of(path)["Restarts"] == ("1" if path in dying else "0")
        assert taken_up(work, path) == (frozen[path].rows if path in dying else 0)
