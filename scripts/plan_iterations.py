"""Count the iterations of training that there are prompts for."""

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import write_json
from adaptive_samplers.policies.iterations import plan_iterations
from adaptive_samplers.stage import run_stage, say, settings_of
from adaptive_samplers.tables import read_table


def main(snakemake):
    settings = settings_of(snakemake).iteration
    if settings.command is None:
        raise UserError("iteration.command: is null, so nothing would be trained; name a command (docs/iteration.md)")
    prompts = read_table("prompts", snakemake.input.prompts)
    size, most = settings.prompts_per_iteration, settings.count
    iterations = plan_iterations(prompts, settings.splits, settings.skip, size, most)
    ended = " (the prompts end there)" if most is not None and len(iterations) < most else ""
    say(f"{len(iterations)} iterations of up to {size} prompts{ended}")
    write_json({"iterations": iterations}, snakemake.output[0])


run_stage(main, snakemake)
