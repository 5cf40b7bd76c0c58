"""Write which answers could not be selected and why, and how each heuristic fared."""

from functools import partial
from pathlib import Path

from adaptive_samplers.budgets import asked_places
from adaptive_samplers.config.weights import PARETO, parse_weight_name
from adaptive_samplers.files import write_json
from adaptive_samplers.grid import Grid
from adaptive_samplers.heuristics import prompted_heuristics
from adaptive_samplers.pages import selection_page
from adaptive_samplers.selection import (
    PARETO_WEIGHTS,
    SUMMARIZED,
    filtered_answers,
    filtering_reasons,
    filtering_report,
    marginals,
)
from adaptive_samplers.stage import run_stage, say, settings_of
from adaptive_samplers.tables import read_batches, read_table, write_table


def main(snakemake):
    settings = settings_of(snakemake)
    prompts = read_table("prompts", snakemake.input.prompts)
    heuristics = read_table("heuristics", snakemake.input.heuristics)
    scores = read_table("scores", snakemake.input.scores, SUMMARIZED)
    grid = Grid(prompts["prompt_id"], heuristics["heuristic_id"], settings.seeds)
    asked = None
    # Where budgets are adaptive.
    if allocation := snakemake.input.get("allocation"):
        first = settings.seeds[: settings.generation.adaptive.first_seeds]
        asked = asked_places(Path(allocation), grid, first)
    reasons = filtering_reasons(
        grid,
        scores,
        partial(read_batches, "candidates", snakemake.input.candidates),
        settings.scoring.correct_only,
        prompted_heuristics(dict(zip(heuristics["heuristic_id"], heuristics["processors"], strict=True))),
        asked,
    )
    training_sets = {}
    for path in map(Path, snakemake.input.training_sets):
        name, top_k = path.stem.rsplit("_top", 1)
        weights = PARETO_WEIGHTS if name == PARETO else parse_weight_name(name)
        kept = read_table("training_sets", path, ["prompt_id", "heuristic_id"])
        training_sets[name, int(top_k)] = weights, kept.merge(prompts[["prompt_id", "kind"]], on="prompt_id")
    places = grid.places(scores)
    table = marginals(scores, (places >= 0) & (reasons[places] == 0), heuristics, training_sets)
    report = filtering_report(grid, reasons, prompts)
    say(f"{report['answers']['all']}; {len(report['empty_groups'])} of {report['groups']} prompts and seeds have none")
    write_table("filtered", filtered_answers(grid, reasons), snakemake.output.filtered)
    write_table("marginals", table, snakemake.output.marginals)
    selection_page(report, table, snakemake.output.page)
    write_json(report, snakemake.output.report)


run_stage(main, snakemake)
