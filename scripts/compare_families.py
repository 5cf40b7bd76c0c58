"""Compare the families of samplers that the plan declares, on the test prompts."""

from pathlib import Path

from adaptive_samplers.compare.planned import compare_planned
from adaptive_samplers.compare.runs import judged_results
from adaptive_samplers.compare.temperatures import values_by_temperature
from adaptive_samplers.files import read_json, write_json
from adaptive_samplers.rendering import write_csv
from adaptive_samplers.stage import run_stage, say
from adaptive_samplers.tables import read_table


def main(snakemake):
    plan = read_json(snakemake.input.plan)
    heuristics = read_table("heuristics", snakemake.input.heuristics)
    folder = Path(snakemake.input.heuristics).parents[1]
    results, notes = judged_results(folder, heuristics, plan["families"], plan["objectives"])
    tables, summary = compare_planned(results, plan, snakemake.params.seed, notes)
    statistics = plan["statistics"]
    tables["temperatures"] = values_by_temperature(
        results,
        heuristics.set_index("name")["processors"],
        statistics["resamples"],
        1 - statistics["level"],
        snakemake.params.seed,
    ).assign(plans=plan["plans"])
    for name, table in tables.items():
        write_csv(table, snakemake.output[name])
    write_json(summary, snakemake.output.summary)
    for doubt in summary["doubts"]:
        say(f"note: {doubt}")


run_stage(main, snakemake)
