"""What several tests need: the repository, changed configs, and the Snakefile in a working directory of its own."""

import ast
import copy
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import pytest
import yaml

from adaptive_samplers.labels.judges.registry import DEFAULT_FEATURES
from adaptive_samplers.tables import KEY, read_table

REPOSITORY = Path(__file__).resolve().parent.parent
LIBRARY = REPOSITORY / "scripts" / "adaptive_samplers"
REGISTRY = re.compile(r"^from adaptive_samplers\.(\S+)\.registry import", re.MULTILINE)
LOADED = {
    "build.py": re.compile(r'opened_by=Reference\("([\w.]+):'),
    "asking.py": re.compile(r'ForJudges\(Reference\("([\w.]+):'),
}
HUB = {"kind": "hub", "repo": "owner/name"}
REMOVED = object()


def in_whole(
    label: Callable[..., Iterator[pd.DataFrame]], parts: Iterable[pd.DataFrame], *arguments: Any, **named: Any
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The labels of all parts, from a labeller that gives them part by part, and its report."""
    report: dict[str, Any] = {}
    return pd.concat(label(parts, *arguments, **named, report=report), ignore_index=True), report


def read_config(name: str) -> dict[str, Any]:
    """A config in the folder `config`, as it is written there."""
    return yaml.safe_load((REPOSITORY / "config" / name).read_text())


def changed(config: dict[str, Any], *changes: tuple[str, Any]) -> dict[str, Any]:
    """A copy of a config with other values under dotted keys, or without them; numbers stand for list items."""
    config = copy.deepcopy(config)
    for path, value in changes:
        *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
        place: Any = config
        for key in parents:
            place = place[key]
        if value is REMOVED:
            del place[last]
        else:
            place[last] = value
    return config


SMOKE = read_config("presets/smoke.yaml")


def absent(message: str) -> NoReturn:
    """Leave a test, or a module's tests, for what this machine lacks; on CI, which installs it, that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message, allow_module_level=True)


def need_tokengrams() -> None:
    """Leave a test, or a module's tests, for want of tokengrams, which is no fault on Python 3.12 and newer."""
    if importlib.util.find_spec("tokengrams") is not None:
        return
    if sys.version_info >= (3, 12):
        pytest.skip("tokengrams has no wheels for Python 3.12 and newer", allow_module_level=True)
    absent("tokengrams is not installed; `make test` does it (envs/tokengrams.txt)")


PARSE = """
import json, sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

snakefile, expression, change, *files = sys.argv[1:]
with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
    settings = ConfigSettings(config=json.loads(change), configfiles=list(map(Path, files)))
    parsed = api.workflow(ResourceSettings(cores=1), settings, snakefile=Path(snakefile))
    parsed.dag(DAGSettings())
    print(json.dumps(eval(expression, {"workflow": parsed._workflow})))
"""


def of_workflow(expression: str, folder: Path, *files: str | Path, change: Mapping[str, Any] | None = None) -> Any:
    """What a Python expression says of `workflow`: the Snakefile as Snakemake reads it in a folder.

    `files` are given as `--configfile`, `change` as `--config`.
    """
    arguments = [REPOSITORY / "Snakefile", expression, json.dumps(change or {}), *files]
    command = [sys.executable, "-c", PARSE, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@dataclass
class Workflow:
    """The project's Snakefile in a working directory of its own."""

    folder: Path
    profile: Path = REPOSITORY / "profiles" / "local"
    base: Path = REPOSITORY / "config" / "presets" / "smoke.yaml"
    snakemake: tuple[str, ...] = ("-m", "snakemake")  # what Python runs
    snakefile: Path = REPOSITORY / "Snakefile"
    started: list[subprocess.Popen] = field(default_factory=list)
    made: Mapping[str, Path] = field(default_factory=dict)  # the results of the first run, when others are added to it

    def command(self, *arguments: str, config: dict[str, Any] | None = None) -> list[str]:
        """A Snakemake command line; `config` is laid over the base config, the smoke preset."""
        layers = [self.base]
        if config:
            layers.append(self.folder / "override.yaml")
            layers[-1].write_text(yaml.safe_dump(config))
        command = [sys.executable, *self.snakemake, "--snakefile", str(self.snakefile)]
        command += ["--directory", str(self.folder), "--profile", str(self.profile)]
        return [*command, *arguments, "--configfile", *map(str, layers)]

    def run(self, *arguments: str, config: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        """Run Snakemake to its end; stdout holds all that it and its jobs wrote."""
        return subprocess.run(
            self.command(*arguments, config=config),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd=self.folder,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )

    def start(
        self, *arguments: str, config: dict[str, Any] | None = None, **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start Snakemake in a process group of its own; what it writes goes to `snakemake.log` in the folder."""
        with open(self.folder / "snakemake.log", "wb") as log:
            process = subprocess.Popen(
                self.command(*arguments, config=config),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def kill(self) -> None:
        """End what `start` started and what still runs, with the jobs on this machine."""
        for process in self.started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def planned(self, *arguments: str, config: dict[str, Any] | None = None) -> dict[str, int]:
        """How many jobs of each rule a dry run plans."""
        done = self.run("--quiet", "rules", "--dry-run", *arguments, config=config)
        assert done.returncode == 0, done.stdout
        jobs = {}
        for line in done.stdout.splitlines():
            words = line.split()
            if len(words) == 2 and words[1].isdigit() and words[0] != "total":
                jobs[words[0]] = int(words[1])
        return jobs

    def result(self, path: str) -> Path:
        """A file of the smoke run."""
        return self.folder / "results" / "smoke" / path


def working_directory(folder: Path) -> Workflow:
    """A folder in which the project's relative paths hold."""
    (folder / "config").mkdir(parents=True)
    shutil.copy(REPOSITORY / "config" / "config.yaml", folder / "config" / "config.yaml")
    (folder / "resources").symlink_to(REPOSITORY / "resources")
    return Workflow(folder)


def tiny_run(folder: Path, model: Path, prompts: list[dict[str, Any]], *changes: tuple[str, Any]) -> Workflow:
    """A folder with a config of its own: the smoke preset with the tiny model, these prompts, and changes."""
    work = working_directory(folder)
    (work.folder / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    config = changed(
        SMOKE,
        ("run.name", "tiny"),
        ("model.name", "tiny"),
        ("model.source", {"kind": "folder", "path": str(model)}),
        ("prompts.sources", [{"path": "prompts.jsonl"}]),
        # With a tiny model, likelihoods cost little.
        ("labels.quality.judge.features", list(DEFAULT_FEATURES)),
        *changes,
    )
    work.base = work.folder / "tiny.yaml"
    work.base.write_text(yaml.safe_dump(config))
    return work


def wait_until(condition: Callable[[], Any], seconds: float, process: subprocess.Popen | None = None) -> Any:
    """The first true value of `condition`, asked for so many seconds, and as long as `process` runs if one is given."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert process is None or process.poll() is None, "the process ended before its time"
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)
    return value


def whole_rows(part: Path) -> dict[tuple, list[int]]:
    """The token ids of the answers in a part file by key, without a line that a kill left half-written."""
    if not part.exists():
        return {}
    whole = part.read_text().rpartition("\n")[0]
    return {tuple(row["key"]): row["token_ids"] for row in map(json.loads, whole.splitlines()[1:])}


def freeze_generation(part: Path, process: subprocess.Popen) -> tuple[int, dict[tuple, list[int]]]:
    """Stop a generation in its midst, by the part file that it writes: its process, and the answers it has finished."""
    wait_until(lambda: whole_rows(part), 300, process)
    number = int(re.match(r"process (\d+) on ", Path(f"{part}.lock").read_text())[1])
    os.kill(number, signal.SIGSTOP)
    return number, whole_rows(part)


def answers(path: Path) -> dict[tuple, list[int]]:
    """The token ids of the answers in a candidates table by key, which no two rows share."""
    table = read_table("candidates", path)
    assert not table.duplicated(KEY).any()
    return {tuple(row[:3]): list(row[3]) for row in table[[*KEY, "token_ids"]].itertuples(index=False)}


def processes_with(mark: str) -> list[int]:
    """The processes of this machine whose command line holds a text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a module without what only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from at_run_time(node)


def imported_packages(path: Path, seen: set[Path]) -> set[str]:
    """Top-level packages that a script imports, itself or through the library; without what files in `seen` import.

    What a registry names is loaded by those who ask it for an engine or a judge: `build`, `asking`.
    """
    if path in seen:
        return set()
    seen.add(path)
    packages, files = imports_of(path)
    return packages.union(*(imported_packages(file, seen) for file in files))


@cache
def imports_of(path: Path) -> tuple[frozenset[str], tuple[Path, ...]]:
    """The packages of others that a file imports itself, and the files of the library that it loads."""
    packages, files, text = set(), [], path.read_text()
    for registry in REGISTRY.findall(text) if path.name in LOADED else ():
        for place in LOADED[path.name].findall(LIBRARY.joinpath(*registry.split("."), "registry.py").read_text()):
            files.append(LIBRARY.joinpath(*place.split(".")).with_suffix(".py"))
    for node in at_run_time(ast.parse(text)):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for module in modules:
            if not module.startswith("adaptive_samplers"):
                packages.add(module.split(".")[0])
                continue
            if module == "adaptive_samplers":
                continue  # its shortcut to samplers is taken by no stage
            place = REPOSITORY / "scripts" / Path(*module.split("."))
            files += [file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]
    return frozenset(packages), tuple(files)
