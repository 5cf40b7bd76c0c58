"""Run the script of one rule in this process, for a debugger: `python -m pdb scripts/run_by_hand.py FILE [CONFIG ...]`.

FILE is an output of the rule, such as results/demo/scores.parquet; its inputs must be there, and it is written over.
Configs are layered in their order, as `snakemake --configfile` does it; without any, it is config/config.yaml.
Snakemake only says what the rule's script gets: it starts no job, and takes no lock.
"""

import os
import runpy
import sys
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.exceptions import RuleException, WorkflowError
from snakemake.iocontainers import Snakemake
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

SNAKEFILE = Path(__file__).resolve().parents[1] / "Snakefile"


def what_the_script_gets(target: str, configs: list[Path]) -> tuple[Path, Snakemake]:
    """The script of the rule that makes a file, and its `snakemake`."""
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        settings = ConfigSettings(configfiles=configs)
        resources = ResourceSettings(cores=os.cpu_count())
        parsed = api.workflow(resources, settings, snakefile=SNAKEFILE)
        parsed.dag(DAGSettings(targets={target}))
        # Snakemake's own interface either runs jobs or tells nothing of them.
        workflow = parsed._workflow
        workflow._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=True, nolock=True)
        workflow._build_dag()
        [job] = workflow.dag.targetjobs
        if job.rule.script is None:
            raise WorkflowError(f"{target}: the rule {job.rule.name} has no script")
        if missing := [str(path) for path in job.input if not Path(path).exists()]:
            raise WorkflowError(f"{target} is made from files that are not there: {', '.join(missing)}")
        script = SNAKEFILE.parent / "scripts" / Path(job.rule.script).name
        parts = job.input, job.output, job.params, job.wildcards, job.threads, job.resources, job.log
        return script, Snakemake(*parts, workflow.config, job.rule.name, None, script.parent)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        script, snakemake = what_the_script_gets(sys.argv[1], list(map(Path, sys.argv[2:])))
    except (RuleException, WorkflowError) as error:
        sys.exit(str(error))
    for path in (*snakemake.output, *snakemake.log):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), {"snakemake": snakemake}, "__main__")
