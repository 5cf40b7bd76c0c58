"""Snakemake, asking SLURM every second how its jobs are: `python tests/slurm/impatient_snakemake.py ARGUMENTS`.

As its plugin is, it asks ten seconds later each time that no job has ended, up to three minutes, and no option changes
that. So it saves the queues of real clusters, and costs these tests, with their short jobs, most of their time.
"""

from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor

Executor.next_seconds_between_status_checks = property(lambda executor: 1, lambda executor, seconds: None)
main()
