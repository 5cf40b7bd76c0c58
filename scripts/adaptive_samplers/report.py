"""Snakemake's HTML report, made from within the workflow."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import atomic_output
from adaptive_samplers.stage import say


def write_report(config: dict[str, Any], snakefile: Path, output: Path) -> None:
    """Run `snakemake --report` on the figures and tables of the run that `config` describes.

    It runs alongside the calling Snakemake, which holds the lock on this folder, and only reads.

    Raises
    ------
    UserError
        If Snakemake could not write the report.
    """
    with tempfile.TemporaryDirectory() as folder, atomic_output(output) as temporary:
        configfile = Path(folder) / "config.yaml"
        configfile.write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--nolock", "--cores", "1"]
        command += ["--configfile", str(configfile), "--report", str(temporary), "--", "figures", "tables"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        say(done.stdout + done.stderr)
        if done.returncode or not temporary.exists():
            raise UserError("snakemake --report failed; its output is above")
