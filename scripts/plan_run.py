"""Show what a run will take, and run nothing: `python scripts/plan_run.py config/presets/llama-3.2-3b.yaml`.

Several configs are layered in their order, as `snakemake --configfile` does it; without any, it is config/config.yaml.
Jobs are those that a dry run plans now, so that what is there already is not counted; hours and disk follow from
`adaptive_samplers.plan`, whose assumptions are options here.
"""

import argparse
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from adaptive_samplers.config.layers import DEMO, read_layers
from adaptive_samplers.config.load import load_config
from adaptive_samplers.config.typed import typed_config
from adaptive_samplers.errors import UserError
from adaptive_samplers.plan import Assumptions, estimate, job_counts, planned_prompts, render


def main() -> None:
    options = _options()
    config = typed_config(load_config(read_layers(options.configs), Path.cwd()))
    assumptions = Assumptions(**{item.name: getattr(options, item.name) for item in fields(Assumptions)})
    prompts, found = planned_prompts(config, Path.cwd())
    if options.prompts is not None:
        prompts = prompts.scaled(options.prompts)
    jobs = job_counts(_dry_run(options.configs))
    print(render(estimate(config, prompts, assumptions), jobs, assumptions))
    if round(prompts.total) != found:
        print(f"\nThe plan is for {prompts.total:,.0f} prompts; prompts.sources hold {found:,} that would be used now.")
    if not jobs:
        print("\nNothing is to be done: all of it is there already.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("configs", nargs="*", default=[DEMO], help="layered in this order")
    parser.add_argument("--prompts", type=float, help="plan for so many prompts, whatever the sources hold")
    for item in fields(Assumptions):
        option = "--" + item.name.replace("_", "-")
        parser.add_argument(option, type=float, default=item.default, help=item.metadata["meaning"])
    return parser.parse_args()


def _dry_run(configs: list[str]) -> str:
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local", "--dry-run", "--quiet", "rules"]
    # Behind --quiet and --configfile, every word would be taken as theirs.
    command += ["--configfile", *configs]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise UserError(f"the dry run failed:\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
