"""Small self-contained HTML pages for the report: tables that need no plot."""

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adaptive_samplers.evaluation import best_first
from adaptive_samplers.files import atomic_output
from adaptive_samplers.selection import REASONS

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; margin: 2em; max-width: 60em; }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3em .8em; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid #444; }
tr.learned td { background: #eef5fb; font-weight: 600; }
"""
# Control characters, lone surrogates, noncharacters, and marks that change the text direction.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff"
    "\ud800-\udfff\ufdd0-\ufdef]"
)


def page(title: str, parts: Sequence[str], path: Path | str, style: str = "", head: str = "") -> None:
    """Write an HTML page of `parts`, which are HTML already; `style` is CSS in addition to that of all pages.

    `head` is HTML that stands in the page's head, after its character set.
    """
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *parts])
    with atomic_output(path) as temporary:
        temporary.write_text(
            f"<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>{head}\n"
            f"<title>{html.escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n",
            encoding="utf-8",
        )


def visible(text: str) -> str:
    """`text` as HTML, whatever it holds: markup is escaped, and so is, visibly, what a browser would not show."""
    return _UNSAFE.sub(lambda found: f"<span class='control'>{ascii(found[0])[1:-1]}</span>", html.escape(text))


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], classes: Sequence[str] = ()) -> str:
    """An HTML table; numbers with three decimals, nulls as a dash. `classes` has one class per row."""
    heads = "".join(f"<th>{visible(column)}</th>" for column in columns)
    lines = []
    for position, row in enumerate(rows):
        kind = f" class='{classes[position]}'" if classes else ""
        lines.append(f"<tr{kind}>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>")
    return f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody>\n</table>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{visible(text)}</p>"


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return "&ndash;"
    return f"{value:.3f}" if isinstance(value, float) else visible(str(value))


def comparison_page(comparison: pd.DataFrame, path: Path | str, said: str = "") -> None:
    """The comparison, best quality first: one column per objective, with its interval; `said` is said below it."""
    objectives = list(dict.fromkeys(comparison["objective"]))
    order = best_first(comparison, "quality" if "quality" in objectives else objectives[0])
    found = {(row.name, row.objective): row for row in comparison.itertuples(index=False)}
    rows = []
    for name in order:
        cells = [found.get((name, objective)) for objective in objectives]
        rows.append([name, *("" if cell is None else _interval(cell) for cell in cells)])
    kinds = comparison.drop_duplicates("name").set_index("name")["kind"]
    note = paragraph(
        "Mean over test prompts [bootstrap interval]. Learned samplers are shaded. A dash: nothing to measure."
    )
    parts = [table(["sampler", *objectives], rows, [kinds[name] for name in order]), note]
    page("Comparison", parts + [paragraph(said)] * bool(said), path)


def _interval(row: Any) -> str:
    if pd.isna(row.mean):
        return "–"
    return f"{row.mean:.3f}" if pd.isna(row.low) else f"{row.mean:.3f} [{row.low:.3f}, {row.high:.3f}]"


def judge_page(
    tournaments: Mapping[str, Any],
    likelihood: Sequence[Mapping[str, Any]],
    training: Mapping[str, Mapping[str, Any]],
    path: Path | str,
) -> None:
    """What is known about the judges, and the outcome of their tournaments.

    Parameters
    ----------
    tournaments, likelihood : as in `judge_parts`.
    training : by name, the cross-validated accuracy, weights and limits of every embedded judge.
    """
    parts = []
    for name, report in training.items():
        parts += _training_parts(f"The embedded judge {name}" if len(training) > 1 else "The embedded judge", report)
    page("The judge", [*parts, "<h2>In this run</h2>", *judge_parts(tournaments, likelihood)], path)


_OF_TOURNAMENTS = {
    "groups": "tournaments",
    "equal_answers": "answers with the same text as another, which share its rating",
    "calls": "comparisons asked for",
    "failed": "comparisons that failed",
    "failed_share": "share of comparisons that failed",
    "byes": "byes",
    "most_byes": "byes of one answer, at most",
    "rematches": "rematches",
    "disconnected": "tournaments whose comparisons do not connect all answers",
    "unrated": "answers without a rating",
    "first_preference": "mean probability of the answer shown first",
    "worth_of_first": "what being shown first is worth, mean over tournaments (nats)",
    "settled": "tournaments whose best answers are known",
}
_MEASURED = {
    "position_bias": "position bias: mean probability of the answer shown first, less 0.5",
    "orders_disagree": "share of comparisons in which the two orders name different winners",
    "label_mass": "mean probability of the two labels together",
    "told_probabilities": "share of replies that came with probabilities",
    "weights": "weights of the log-probabilities",
    "identical_answers": "comparisons of answers with the same text, which are ties without a call",
    "answers_rated": "answers rated",
    "answers_failed": "answers that could not be rated",
    "calls_made": "calls of the model",
    "calls_found": "calls answered in an earlier try of the job",
}
_LARGE = 0.25  # share of a variance: a correlation of one half
_NOT_OF_ONE_JUDGE = {"disconnected_groups", "failure_reasons", "judge"}


def judge_parts(tournaments: Mapping[str, Any], likelihood: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was measured of the judges, how much of their ratings is likelihood, their agreement, and their tournaments.

    Parameters
    ----------
    tournaments : the report of `label_quality`; where several judges are configured, with `judges` (that of each, by
        name, with what was measured of it), `combine`, `answers_rated`, and `agreement` (a list of
        `{judges, kendall_tau, top_1, groups}`).
    likelihood : rows of `likelihood` in what `summarize_labels` found.
    """
    one = {"the judge": {**tournaments, **tournaments.get("judge", {})}}
    judges = {name: _with_share(report) for name, report in tournaments.get("judges", one).items()}
    known = list(dict.fromkeys(name for report in judges.values() for name in report))
    measured = [name for name in known if name not in _OF_TOURNAMENTS and name not in _NOT_OF_ONE_JUDGE]
    parts = [_by_judge(judges, measured, _MEASURED)] if measured else []
    parts += _likelihood_parts(likelihood)
    if "judges" in tournaments:
        heads = ["judges", "Kendall's tau of their ratings", "share with the same best answer", "groups"]
        pairs = tournaments["agreement"]
        rows = [[" and ".join(a["judges"]), a["kendall_tau"], a["top_1"], a["groups"]] for a in pairs]
        rated = tournaments["answers_rated"]
        method = "the first judge's rating" if tournaments["combine"] == "first" else "the mean of standardized ratings"
        said = f"Quality is {method}. {rated['all']:,} answers were rated by all judges, {rated['some']:,} by some, "
        parts += [
            "<h3>Agreement between judges</h3>",
            table(heads, rows),
            paragraph(f"{said}{rated['none']:,} by none."),
        ]
    else:
        parts.append(paragraph("One judge rated the answers, so there is no agreement between judges to report."))
    counts = [name for name in _OF_TOURNAMENTS if name in known]
    parts += ["<h3>Tournaments</h3>", _by_judge(judges, counts, _OF_TOURNAMENTS)]
    for name, report in judges.items():
        if reasons := report.get("failure_reasons"):
            whose = f" of {html.escape(name)}" if len(judges) > 1 else ""
            parts += [f"<h3>Why calls{whose} failed</h3>", table(["reason", "times"], list(reasons.items()))]
    return parts


def _likelihood_parts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    heads = [
        "judge",
        "of its",
        "share explained",
        "95 % interval",
        "slope a nat",
        "95 % interval",
        "prompts",
        "answers",
    ]
    cells = []
    for row in rows:
        numbers = [cell for name in ("r_squared", "slope") for cell in (row[name], _ends(row, name))]
        cells.append([row["judge"], row["measure"], *numbers, row["prompts"], row["answers"]])
    return [
        "<h3>Likelihood in the ratings</h3>",
        paragraph(
            "How much of the variance of a judge's ratings within prompts is explained by the answer's mean "
            "log-probability under the base model (R squared of a regression with a mean for each prompt), with "
            "bootstrap intervals over prompts. With a positive slope, more probable answers are rated higher."
        ),
        f"<div style='overflow-x: auto'>{table(heads, cells)}</div>",
        *(f"<p><strong>{visible(sentence)}</strong></p>" for sentence in _warnings(rows)),
    ]


def _warnings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each judge that rates the likely, or the unlikely, much higher."""
    said = {}
    for row in rows:
        share = row["r_squared"]
        if share is None or share < _LARGE or share <= said.get(row["judge"], (0.0, ""))[0]:
            continue
        likely, tuned = ("more", "colder") if row["slope"] > 0 else ("less", "hotter")
        said[row["judge"]] = (
            share,
            f"{share:.0%} of the variance of the {row['measure']} by {row['judge']} within prompts is explained by the "
            f"answer's mean log-probability under the base model: the {likely} probable an answer is, the higher it is "
            f"rated. A sampler tuned to this judge may only learn to be {tuned}.",
        )
    return [sentence for _, sentence in said.values()]


def _ends(row: Mapping[str, Any], name: str) -> str | None:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return None if low is None else f"[{low:.3f}, {high:.3f}]"


def _with_share(report: Mapping[str, Any]) -> dict[str, Any]:
    return {**report, "failed_share": report["failed"] / report["calls"]} if report.get("calls") else dict(report)


def _by_judge(judges: Mapping[str, Mapping[str, Any]], names: Sequence[str], titles: Mapping[str, str]) -> str:
    rows = [[titles.get(name, name), *(report.get(name) for report in judges.values())] for name in names]
    return f"<div style='overflow-x: auto'>{table(['', *judges], rows)}</div>"


def _training_parts(title: str, training: Mapping[str, Any]) -> list[str]:
    left_out = training["accuracy_corruption_left_out"]
    accuracy = [
        [corruption, share, left_out[corruption]] for corruption, share in training["accuracy_by_corruption"].items()
    ]
    return [
        f"<h2>{html.escape(title)}</h2>",
        paragraph(
            f"{training['pairs']} pairs of a written and a corrupted answer to {training['prompts']} prompts; "
            f"{training['left_out']} left out. Accuracy with all pairs of a prompt in one of "
            f"{training['folds']} folds: {training['accuracy']:.3f}."
        ),
        table(["corruption", "accuracy, cross-validated", "accuracy, corruption never seen"], accuracy),
        table(["feature", "weight (standardized)"], list(training["weights"].items())),
        "<h3>Limits</h3>",
        paragraph(training["limits"]),
    ]


def completeness_page(reports: dict[str, dict[str, Any]], path: Path | str) -> None:
    """What was expected, found, missing, duplicated, failed and dropped, with the rows that the reports list."""
    counts = ["expected", "found"]
    lists = ["missing", "duplicated", "failed", "dropped_prompts"]
    lists += ["unparsed"] * any("unparsed" in report for report in reports.values())
    rows = [
        [name, *(report[key] for key in counts), *(len(report.get(key, [])) + _unlisted(report, key) for key in lists)]
        for name, report in reports.items()
    ]
    parts = [table(["answers", *counts, *lists], rows)]
    for name, report in reports.items():
        parts.append(paragraph(f"{name}: answers ended by {report['finish_reasons']}"))
        for heuristic, share in report.get("unparsed_shares", {}).items():
            parts.append(paragraph(f"{name}: of the replies to {heuristic}, {share:.1%} held no answer"))
        for key in lists:
            parts += [paragraph(f"{name}, {key}: {row}") for row in report.get(key, [])]
            if _unlisted(report, key):
                parts.append(paragraph(f"{name}, {key}: and {_unlisted(report, key)} more"))
    page("Completeness of the candidates", parts, path)


def _unlisted(report: dict[str, Any], key: str) -> int:
    """How many rows of a kind a report counts without listing them."""
    return report.get("unlisted", {}).get(key, 0)


_LISTED_GROUPS, _LISTED_HEURISTICS = 100, 10


def selection_page(report: dict[str, Any], marginals: pd.DataFrame, path: Path | str) -> None:
    """What was filtered and why, the prompts and seeds that are left without an answer, and what was selected most.

    Parameters
    ----------
    report : what `selection.filtering_report` found.
    marginals : the `marginals` table.
    """
    kinds = report["answers"]
    counted = list(next(iter(kinds.values())))
    empty = report["empty_groups"]
    parts = [
        table(["prompts", *counted], [[kind, *(row[name] for name in counted)] for kind, row in kinds.items()]),
        *(paragraph(f"{reason}: {meaning}.") for reason, meaning in REASONS.items() if reason in counted),
        f"<h2>{len(empty)} of {report['groups']} prompts and seeds have no answer to select</h2>",
    ]
    if empty:
        heads = ["prompt_id", "seed", "kind", "split", "reasons"]
        parts.append(table(heads, [[group[head] for head in heads] for group in empty[:_LISTED_GROUPS]]))
    if len(empty) > _LISTED_GROUPS:
        parts.append(paragraph(f"and {len(empty) - _LISTED_GROUPS} more, in selection/report.json"))
    columns = ["selected", "share", "score", "quality", "diversity", "correctness"]
    for (weights, top_k), rows in marginals[marginals["kind"] == "all"].groupby(["weights", "top_k"], sort=False):
        most = rows.sort_values("selected", ascending=False, kind="stable")[:_LISTED_HEURISTICS]
        cells = [list(row) for row in most[["name", *columns]].itertuples(index=False, name=None)]
        parts += [f"<h2>{html.escape(weights)}, top {top_k}: what was selected most</h2>"]
        parts.append(table(["heuristic", *columns], cells))
    parts.append(paragraph("Means of the score and the labels are over all answers that could be selected."))
    page("Selection", parts, path)
