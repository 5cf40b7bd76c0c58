"""Kill a run again and again, as a power cut would, and see whether it still ends as one that nobody disturbed.

    .venv/bin/python tests/kill_runs.py --kills 20

The smoke preset runs once undisturbed. A second run, in a folder of its own, is killed while a random job of a random
rule is at a random moment, and started again by the same command, until it was killed so often; kills are spread over
the rules in the order in which they start. In the end all files of both are compared, byte by byte. SIGKILL goes to
Snakemake and to everything that descends from it. It does not take from the disk what the operating system had not
written yet: that would take a machine of its own.

Prints a table of the kills, and what was lost, doubled, different or left over; exits with 1 if anything was. The same
seed chooses the same jobs and the same shares of their time; what runs beside them is the machine's choice.
"""

import argparse
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import psutil
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from adaptive_samplers.hashing import file_sha256
from adaptive_samplers.tables import KEY
from support import REPOSITORY, Workflow, working_directory

# In the environment of all that descends from a Snakemake, whatever becomes of its parents and its session.
MARK = "ADAPTIVE_SAMPLERS_KILL_RUNS"
STARTED = re.compile(r"^\[(.*)\]\nJob (\d+): (.*)$", re.MULTILINE)
FINISHED = re.compile(r"^\[(.*)\]\nFinished jobid: (\d+) \(Rule: (\w+)\)$", re.MULTILINE)
# How long a job, or all jobs before it, may take.
PATIENCE = 1800.0
# Files and folders that tell when something was done and how long it took, and nothing else that is not compared.
NOT_COMPARED = {
    "report.html": "Snakemake's report, with the date and the seconds of every job",
    "tensorboard": "the moment of every step of a training, whose numbers are in curves.csv too",
}
# While Snakemake reads its files and builds its DAG, no job runs.
STARTING = "(starting)"
STARTING_SECONDS = 6.0


@dataclass(frozen=True)
class Job:
    """A job by its rule and by the message that Snakemake shows for it alone; how long it takes undisturbed."""

    rule: str
    message: str
    seconds: float


@dataclass
class Kill:
    """One kill: the job it was meant for, when, and what it left."""

    job: Job
    share: float
    running: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)


def read_jobs(log: str) -> list[Job]:
    """The jobs that finished by a log of Snakemake, in the order in which they started."""
    ends = {number: (stamp, rule) for stamp, number, rule in FINISHED.findall(log)}
    jobs = []
    for stamp, number, message in STARTED.findall(log):
        if number in ends:
            begin, end = (datetime.strptime(moment, "%a %b %d %H:%M:%S %Y") for moment in (stamp, ends[number][0]))
            jobs.append(Job(ends[number][1], message, max(1.0, (end - begin).total_seconds())))
    return jobs


def next_target(jobs: Sequence[Job], aimed: set[str], kills_left: int, generator: random.Random) -> Job:
    """A job of a rule that was not aimed at so far, out of the first of as many parts as kills are left.

    Raises
    ------
    ValueError
        If there is no such rule.
    """
    rules = [rule for rule in dict.fromkeys(job.rule for job in jobs) if rule not in aimed]
    if not rules:
        raise ValueError("there are more kills than rules")
    rule = generator.choice(rules[: -(-len(rules) // kills_left)])
    return generator.choice([job for job in jobs if job.rule == rule])


def cut_power(mark: str) -> None:
    """SIGKILL every process that carries the mark, until none is left."""
    while True:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        if not found:
            return
        for process in found:
            with suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)


def run_and_kill(work: Workflow, kill: Kill) -> str:
    """Start a run, kill it as `kill` says, and note what it left; what Snakemake wrote.

    Raises
    ------
    RuntimeError
        If the run ends before the job starts, or by itself with an error.
    """
    mark, log = uuid4().hex, work.folder / "snakemake.log"
    process = work.start(**{MARK: mark})
    starts = None if kill.job.rule == STARTING else re.compile(rf"^Job (\d+): {re.escape(kill.job.message)}$", re.M)
    try:
        begun = time.monotonic()
        number = None
        while starts and not number:
            if process.poll() is not None or time.monotonic() > begun + PATIENCE:
                raise RuntimeError(f"'{kill.job.message}' did not start:\n{log.read_text()[-3000:]}")
            found = starts.search(log.read_text())
            number = found and found[1]
            time.sleep(0.02)
        moment = time.monotonic() + kill.share * kill.job.seconds
        # A job that goes on where it was killed before may end sooner.
        while time.monotonic() < moment and f"\nFinished jobid: {number} " not in log.read_text():
            time.sleep(0.02)
    finally:
        cut_power(mark)
        process.wait()
    text = log.read_text()
    done = {number for _, number, _ in FINISHED.findall(text)}
    kill.running = [message for _, number, message in STARTED.findall(text) if number not in done]
    kill.unfinished = leftovers(work.folder / "results")
    return text


def leftovers(folder: Path) -> list[str]:
    """What has the name of something unfinished, relative to a folder."""
    unfinished = re.compile(r".*\.(part(\..*)?|lock)|\.(?!gitattributes$|snakemake_timestamp$).*")
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if unfinished.fullmatch(path.name))


def rows(path: Path) -> Counter[str] | None:
    """The rows of a table, by their keys where they have any; None for another kind of file."""
    if path.suffix == ".parquet":
        columns = KEY if set(KEY) <= set(pq.read_schema(path).names) else None
        return Counter(map(repr, pq.read_table(path, columns=columns).to_pylist()))
    if path.suffix in (".jsonl", ".csv"):
        return Counter(path.read_text().splitlines())
    return None


@dataclass
class Comparison:
    """What became of a run's files, against one that nobody disturbed."""

    same: int = 0
    missing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    rows_compared: int = 0
    rows_lost: int = 0
    rows_doubled: int = 0

    def __bool__(self) -> bool:
        return bool(self.missing or self.left_over or self.different or self.rows_lost or self.rows_doubled)


def files_of(folder: Path) -> dict[str, Path]:
    """The files of a folder that are compared, by their paths in it."""
    return {
        str(path.relative_to(folder)): path
        for path in folder.rglob("*")
        if path.is_file() and not NOT_COMPARED.keys() & set(path.relative_to(folder).parts)
    }


def compare(expected: Mapping[str, Path], killed: Path) -> Comparison:
    """Compare the files of a folder with those of an undisturbed run, byte by byte, and of tables the rows."""
    found = files_of(killed)
    result = Comparison(
        missing=sorted(expected.keys() - found.keys()), left_over=sorted(found.keys() - expected.keys())
    )
    for name in sorted(expected.keys() & found.keys()):
        wanted, got = rows(expected[name]), rows(found[name])
        if wanted is not None:
            result.rows_compared += wanted.total()
            result.rows_lost += (wanted - got).total()
            result.rows_doubled += (got - wanted).total()
        if file_sha256(expected[name]) == file_sha256(found[name]):
            result.same += 1
        else:
            result.different.append(name)
    return result


def kill_run(undisturbed: Workflow, work: Workflow, kills: int, seed: int) -> Iterator[Kill]:
    """Kill a run so often, then let it end; yields each kill when it has happened.

    Raises
    ------
    RuntimeError
        If the run cannot be started again, says anything about locks, or is not finished in the end.
    """
    generator = random.Random(seed)
    logs = (path.read_text() for path in (undisturbed.folder / ".snakemake/log").glob("*.log"))
    jobs = [Job(STARTING, "", STARTING_SECONDS), *max(map(read_jobs, logs), key=len)]
    aimed: set[str] = set()
    for number in range(kills):
        job = next_target(jobs, aimed, kills - number, generator)
        kill = Kill(job, generator.uniform(0.02, 0.98))
        aimed.add(job.rule)
        text = run_and_kill(work, kill)
        refuse_words_about_locks(text)
        done = {job.message for job in read_jobs(text)}
        jobs = [job for job in jobs if job.message not in done and job.rule != STARTING]
        yield kill
    last = work.run()
    if last.returncode:
        raise RuntimeError(f"the run does not end after {kills} kills:\n{last.stdout[-5000:]}")
    refuse_words_about_locks(last.stdout)
    if planned := work.planned():
        raise RuntimeError(f"the run has ended, and yet something is left to do: {planned}")


def refuse_words_about_locks(text: str) -> None:
    """Raise a RuntimeError if Snakemake says anything about locks."""
    if found := [line for line in text.splitlines() if re.search(r"\b(un)?lock", line, re.IGNORECASE)]:
        raise RuntimeError("a run that was killed starts with words about locks:\n" + "\n".join(found))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="chooses the jobs and the moments")
    parser.add_argument("--config", type=Path, default=REPOSITORY / "config/presets/smoke.yaml")
    parser.add_argument("--undisturbed", type=Path, help="the working directory of a finished run of the same config")
    parser.add_argument("--folder", type=Path, help="where the runs are made; a new folder under /tmp by default")
    options = parser.parse_args()

    place = options.folder or Path(tempfile.mkdtemp(prefix="kill_runs."))
    if options.undisturbed:
        undisturbed = Workflow(options.undisturbed.resolve(), base=options.config.resolve())
    else:
        undisturbed = working_directory(place / "undisturbed")
        undisturbed.base = options.config.resolve()
        print(f"running {options.config} undisturbed in {undisturbed.folder}", flush=True)
        done = undisturbed.run()
        if done.returncode:
            print(done.stdout[-5000:])
            return 1
    work = working_directory(place / "killed")
    work.base = undisturbed.base
    print(f"killing another one {options.kills} times in {work.folder}, seed {options.seed}\n", flush=True)
    print(
        "| kill | rule | at | of its seconds | what ran | what was unfinished |\n| --- | --- | --- | --- | --- | --- |"
    )
    began = time.monotonic()
    for number, kill in enumerate(kill_run(undisturbed, work, options.kills, options.seed), start=1):
        cells = [number, kill.job.rule, f"{kill.share:.0%}", f"{kill.job.seconds:.0f}"]
        cells += ["; ".join(kill.running) or "nothing", ", ".join(kill.unfinished) or "nothing"]
        print("|", " | ".join(map(str, cells)), "|", flush=True)
    result = compare(files_of(undisturbed.folder / "results"), work.folder / "results")
    print(f"\n{options.kills} kills in {time.monotonic() - began:.0f} s; of {result.rows_compared} rows in tables")
    print(f"  lost {result.rows_lost}, doubled {result.rows_doubled}")
    print(f"{result.same} files are the same, byte by byte")
    for word, names in [
        ("missing", result.missing),
        ("left over", result.left_over),
        ("different", result.different),
    ]:
        print(f"  {word}: {', '.join(names) or 'none'}")
    for name, reason in NOT_COMPARED.items():
        print(f"not compared: {name}, {reason}")
    return int(bool(result))


if __name__ == "__main__":
    sys.exit(main())
