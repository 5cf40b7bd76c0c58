"""What several tests need: the repository, changed configs, and the Snakefile in a working directory of its own."""

import copy
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
HUB = {"kind": "hub", "repo": "owner/name"}
REMOVED = object()


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


@dataclass
class Workflow:
    """The project's Snakefile in a working directory of its own."""

    folder: Path

    def command(self, *arguments: str, config: dict[str, Any] | None = None) -> list[str]:
        """A Snakemake command line; `config` is laid over the smoke preset."""
        layers = [REPOSITORY / "config" / "presets" / "smoke.yaml"]
        if config:
            layers.append(self.folder / "override.yaml")
            layers[-1].write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
        command += ["--directory", str(self.folder), "--profile", str(REPOSITORY / "profiles" / "local")]
        return [*command, *arguments, "--configfile", *map(str, layers)]

    def run(self, *arguments: str, config: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        """Run Snakemake to its end; stdout holds all that it and its jobs wrote."""
        return subprocess.run(
            self.command(*arguments, config=config),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )

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
