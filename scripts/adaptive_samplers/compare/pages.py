"""What a planned comparison found, for people: sentences, a page for the report, and LaTeX for a paper."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from adaptive_samplers.compare.families import UNDECIDED
from adaptive_samplers.compare.planned import LEARNED_TOGETHER
from adaptive_samplers.pages import page, paragraph, table
from adaptive_samplers.rendering import latex_cell, latex_text, write_latex_table


def sentence(pair: Any) -> str:
    """A row of `Comparison.pairs` in words."""
    one = f"{pair.family} - {pair.other}: {pair.difference:+.4g} [{pair.low:.4g}, {pair.high:.4g}], "
    one += f"p {pair.p:.4f}, adjusted {pair.p_holm:.4f}"
    if pd.notna(pair.won):
        one += f"; prompts won {pair.won:.0f}, lost {pair.lost:.0f}, tied {pair.tied:.0f}"
    if pair.verdict == UNDECIDED:
        return f"{one}: {UNDECIDED}; one of {pair.detectable:.3g} or more could have been"
    return f"{one}: {pair.verdict}"


def plan_sentences(plan: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    """What was declared, and under how many plans the test prompts were read."""
    splits, statistics = plan["splits"], plan["statistics"]
    counts = ", ".join(f"{family} {len(names)}" for family, names in plan["families"].items())
    return [
        f"Plan {plan['plan']}, declared before any test answer was judged; the test prompts were read under "
        f"{plan['plans']} plan{'s' if plan['plans'] > 1 else ''}.",
        f"Configurations of each family: {counts}. Every family tries {summary['tries']['families']} of its own, drawn "
        f"at random; the best on {splits['validation']['prompts']} validation prompts is read on "
        f"{splits['test']['prompts']} test prompts, each answered under {len(plan['seeds'])} seeds.",
        f"A prompt is the unit. Test: {statistics['test']}, {statistics['resamples']} resamples. Correction: "
        f"{statistics['correction']}. Level {statistics['level']:g}.",
    ]


def verdict_sentences(pairs: pd.DataFrame, summary: Mapping[str, Any]) -> list[str]:
    """What was found: all learned samplers against all heuristics in each objective, then the count of all verdicts."""
    overall = pairs[pairs["comparison"] == "overall"]
    found = [
        f"{pair.objective}: the best of {summary['tries']['overall']} learned samplers against the best of as many "
        f"heuristics: {sentence(pair)}."
        for pair in overall.itertuples()
    ]
    counts = summary["comparisons"]
    found.append(
        f"Of {sum(counts.values())} comparisons of a learned family with another, {counts['won']} were won and "
        f"{counts['lost']} lost; in {counts[UNDECIDED]} {UNDECIDED}."
    )
    holding = [family for family, holds in summary["claims"].items() if holds and family != LEARNED_TOGETHER]
    found.append(f"Better than every other family in every objective: {', '.join(holding) or 'none'}.")
    return found


def protocol_page(
    plan: Mapping[str, Any], families: pd.DataFrame, pairs: pd.DataFrame, summary: Mapping[str, Any], path: Path | str
) -> None:
    """The report's page."""
    parts = [paragraph(text) for text in (*plan_sentences(plan, summary), *verdict_sentences(pairs, summary))]
    shown = families[families["comparison"] == "families"]
    for objective, rows in shown.groupby("objective", sort=False):
        rows = rows.sort_values("value", ascending=False)
        heads = ["family", "configurations", "chosen", "value", "low", "high", "with all tries", "noise"]
        columns = ["family", "configurations", "chosen", "value", "low", "high", "all_tries", "noise"]
        classes = ["learned" if family in plan["claims"] else "heuristic" for family in rows["family"]]
        parts += [f"<h2>{objective}</h2>", table(heads, rows[columns].to_numpy().tolist(), classes)]
        tested = pairs[(pairs["comparison"] == "families") & (pairs["objective"] == objective)]
        parts += [paragraph(sentence(pair)) for pair in tested.itertuples()]
    if summary["doubts"]:
        parts += ["<h2>Doubts</h2>", *map(paragraph, summary["doubts"])]
    page("Families after equal tries", parts, path)


def write_latex(families: pd.DataFrame, plan: Mapping[str, Any], path: Path | str) -> None:
    """A row per family, learned ones last, and a column per objective: its value after equal tries."""
    rows = families[families["comparison"] == "families"]
    objectives = list(dict.fromkeys(rows["objective"]))
    values = rows.set_index(["family", "objective"])[["value", "low", "high"]]
    names = list(dict.fromkeys(rows["family"]))
    learned = [name for name in names if name in plan["claims"]]
    parts = [
        [[latex_text(name), *(latex_cell(*values.loc[name, objective]) for objective in objectives)] for name in some]
        for some in ([name for name in names if name not in learned], learned)
    ]
    write_latex_table(f"l{'r' * len(objectives)}", [["Family", *map(latex_text, objectives)]], parts, path)
