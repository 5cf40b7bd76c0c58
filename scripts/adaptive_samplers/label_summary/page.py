"""The report's page of the labels: figures, numbers, the judge, and answers to read."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptive_samplers.label_summary.examples import BEST, WORST
from adaptive_samplers.label_summary.summary import distributions_table
from adaptive_samplers.measures import MEASURES
from adaptive_samplers.pages import judge_parts, page, paragraph, table, visible

STYLE = """
body { max-width: 70em; }
figure { margin: 1em 0; }
figure img { width: 52em; height: auto; display: block; }
figcaption { color: #444; max-width: 52em; }
.wide { overflow-x: auto; }
details { margin: .4em 0; }
summary { cursor: pointer; color: #0b57a4; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24em, 100%), 1fr)); gap: 0 1.2em; }
.columns > div { min-width: 0; }
.example { border: 1px solid #ccc; border-left: 5px solid #0072B2; margin: 1em 0; padding: .5em 1em; }
.example.worst { border-left: 5px double #D55E00; }
.example h4 { margin: .2em 0; overflow-wrap: anywhere; }
.facts { color: #444; font-size: 14px; line-height: 1.35; margin: .3em 0; overflow-wrap: anywhere; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f6f6; padding: .5em .7em; margin: .3em 0;
  unicode-bidi: isolate; }
.prompt { background: #fff; border: 1px dashed #bbb; }
.control { color: #8a3a00; background: #ffe9d6; font-family: monospace; unicode-bidi: isolate; }
"""
FOLDED = 600  # characters beyond which a text is folded, or
FOLDED_LINES = 12
_ENDS = {BEST: "Best", WORST: "Worst"}
_FINISHED = {"stop": "ended by itself", "length": "cut at the token limit", "error": "failed"}


def folded(text: str, characters: int, kind: str = "") -> str:
    """A block of text as HTML; a long one is folded and opens on a click.

    Parameters
    ----------
    characters : how many the whole text had; where that is more than there are, the rest is said to be missing.
    kind : a CSS class in addition to `text`.
    """
    block = f"<div class='text {kind}' dir='auto'>{{}}</div>".format
    missing = characters - len(text)
    rest = f"<p class='facts'>{missing:,} more characters are not kept here.</p>" if missing else ""
    if not text:
        return f"<div class='text {kind}'><span class='control'>(empty)</span></div>"
    lines = text.splitlines()
    if len(text) <= FOLDED and len(lines) <= FOLDED_LINES:
        return block(visible(text)) + rest
    beginning = "\n".join(lines[:FOLDED_LINES])[:FOLDED]
    opener = f"<summary>all {characters:,} characters</summary>"
    return f"{block(visible(beginning) + ' &hellip;')}<details>{opener}{block(visible(text))}{rest}</details>"


def labels_page(
    summary: Mapping[str, Any],
    tournaments: Mapping[str, Any],
    diversity_measure: str,
    figures: Mapping[str, Path | str],
    path: Path | str,
    said: str = "",
) -> None:
    """Write the page: one file, with its figures inside.

    Parameters
    ----------
    summary : what `summarize_labels` found.
    tournaments : as in `judge_parts`.
    diversity_measure : the label of diversity that is shown next to an example.
    figures : PNG files of `distributions` and `correlations`.
    said : a sentence below it all.
    """
    parts = [_overview(summary), "<h2>Distributions</h2>", *_distributions(summary, figures["distributions"])]
    parts += ["<h2>Correlations between labels</h2>", *_correlations(summary, figures["correlations"])]
    parts += ["<h2>The judge</h2>", *judge_parts(tournaments, summary["likelihood"])]
    parts += ["<h2>Best and worst answers</h2>", *_examples(summary, diversity_measure)]
    page("Labels", parts + [paragraph(said)] * bool(said), path, STYLE)


def _overview(summary: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{summary[name]:,} {name}" for name in ("prompts", "heuristics", "seeds"))
    empty = ", ".join(MEASURES[column].title for column in summary["empty"])
    said = f"{summary['answers']:,} answers ({counts}), of which {summary['failed']:,} failed."
    said += f" No answer has a value of: {empty}." if empty else ""
    said += "".join(f" {count:,} rows of {table} are of no answer." for table, count in summary["strays"].items())
    return paragraph(said)


def _figure(path: Path | str, caption: str) -> str:
    data = base64.b64encode(Path(path).read_bytes()).decode()
    text = html.escape(caption)
    image = f"<img src='data:image/png;base64,{data}' alt='{text}'>"
    return f"<figure><div class='wide'>{image}</div><figcaption>{text}</figcaption></figure>"


def _wide(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table that scrolls by itself in a narrow window."""
    return f"<div class='wide'>{table(columns, rows)}</div>"


def _distributions(summary: Mapping[str, Any], figure: Path | str) -> list[str]:
    rows = distributions_table(summary)
    rows = rows[rows["n"] > 0]
    columns = ["kind", "unit", "n", "nulls", "mean", "sd", "q05", "q25", "median", "q75", "q95"]
    titles = [MEASURES[label].title for label in rows["label"]]
    cells = [[title, *row] for title, row in zip(titles, rows[columns].itertuples(index=False, name=None), strict=True)]
    return [
        _figure(
            figure,
            "Labels by kind of prompt: a histogram, each with its own scale; under it the median, the middle half and "
            "the middle 90 %. At the right, how many answers have the label, or groups of answers to a prompt under a "
            "heuristic, across seeds, where these have it together. Ratings are log-odds (the mean of several judges: "
            "standard deviations) and relative: their mean is 0 among the answers that met in a tournament.",
        ),
        f"<details><summary>The numbers</summary>{_wide(['label', *columns], cells)}</details>",
    ]


def _correlations(summary: Mapping[str, Any], figure: Path | str) -> list[str]:
    found = summary["correlated"]
    scope = f"all {found['answers']:,} answers"
    if found["answers"] < summary["answers"]:
        scope = (
            f"{found['answers']:,} of {summary['answers']:,} answers: all to {found['prompts']:,} of "
            f"{summary['prompts']:,} prompts, chosen by a hash"
        )
    return [
        _figure(
            figure,
            f"Spearman's rank correlations, of {scope}. Below the diagonal over all of them; above it within prompts: "
            "the mean over prompts with three values or more in which both labels vary. Where one of two labels is a "
            "group's, the unit is the group, and an answer's label is averaged over it. A dash: not defined.",
        ),
        paragraph(
            "A correlation over all answers mixes differences between prompts with those between answers; the one "
            "within prompts is about answers alone. Every pair, with n and standard error over prompts: "
            "tables/label_correlations.csv; as LaTeX: tables/label_correlations.tex."
        ),
    ]


def _examples(summary: Mapping[str, Any], diversity_measure: str) -> list[str]:
    parts = [
        paragraph(
            "The answers with the highest and the lowest rating to prompts of each kind, at most one of either for a "
            "prompt. A rating compares an answer with those that it met in a tournament, not with those to other "
            "prompts; after it stands its standard error. Characters that cannot be shown are written as escapes, such "
            "as \\x07."
        )
    ]
    for kind in summary["kinds"]:
        examples = [example for example in summary["examples"] if example["kind"] == kind]
        parts.append(f"<h3>{html.escape(kind)}</h3>")
        if not examples:
            parts.append(paragraph("No answer to these prompts has a rating."))
        else:
            ends = (
                "".join(_example(example, diversity_measure) for example in examples if example["end"] == end)
                for end in _ENDS
            )
            parts.append("<div class='columns'>" + "".join(f"<div>{end}</div>" for end in ends) + "</div>")
    return parts


def _example(example: Mapping[str, Any], diversity_measure: str) -> str:
    labels = example["labels"]
    rating = f"rating {_number(labels['rating'])}"
    if labels["rating_stderr"] is not None:
        rating += f" \u00b1 {_number(labels['rating_stderr'])}"
    facts = [rating, f"{MEASURES[diversity_measure].title}: {_number(labels[diversity_measure])}"]
    facts.append(f"{_number(labels['tokens'])} tokens, {_FINISHED.get(example['finish_reason'], 'finished otherwise')}")
    verdict = "nothing to verify"
    if example["verifier"] is not None:
        told = [f"correctness {_number(labels['score'])} by {example['verifier']}", example["detail"], example["error"]]
        verdict = ": ".join(part for part in told if part)
    origin = [
        f"dataset {example['dataset']}, {example['split']} split",
        f"prompt {example['prompt_id']}, seed {example['seed']}",
    ]
    prompt = "".join(
        f"<p class='facts'>{visible(message['role'])}</p>{folded(message['content'], message['characters'], 'prompt')}"
        for message in example["messages"]
    )
    return "\n".join(
        [
            f"<div class='example {example['end']}'>",
            f"<h4>{_ENDS[example['end']]} {example['rank']}: {visible(example['heuristic'])}</h4>",
            *(f"<p class='facts'>{' &middot; '.join(map(visible, line))}</p>" for line in (facts, [verdict], origin)),
            prompt,
            "<p class='facts'>answer</p>",
            folded(example["text"], example["characters"]),
            "</div>",
        ]
    )


def _number(value: float | None) -> str:
    """Two decimals, integers without any; a dash for unknown values."""
    if value is None:
        return "\u2013"
    text = f"{value:.0f}" if value == round(value) else f"{value:.2f}"
    return text.replace("-", "\u2212")
