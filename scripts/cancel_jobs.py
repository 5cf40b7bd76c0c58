"""Cancel the SLURM jobs of a run, those of a Snakemake that was killed too: `python scripts/cancel_jobs.py RUN`.

RUN is `run.name` of the config. Run it in the folder in which Snakemake was started. Finished answers are kept.
"""

import sys
from pathlib import Path

from adaptive_samplers.errors import UserError
from adaptive_samplers.slurm import cancel_jobs


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        cancelled = cancel_jobs(Path.cwd(), sys.argv[1])
    except UserError as error:
        sys.exit(f"error: {error}")
    for job in cancelled:
        print(f"cancelled {job}")
    print(f"{len(cancelled)} jobs of the run '{sys.argv[1]}' were cancelled")


main()
