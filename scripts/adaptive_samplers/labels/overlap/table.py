"""The overlap table."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.overlap.matching import greedy_segments
from adaptive_samplers.labels.overlap.tracers import Trace, Tracer
from adaptive_samplers.progress import progress
from adaptive_samplers.tables import KEY

SHOWN_FAILURES = 5
KEPT_REASONS = 20
VALUES = {"coverage": "Float64", "breaks": "Int32", "longest_match": "Int32", "error": object}
Row = tuple[float | None, int | None, int | None, str | None]


def label_overlap(
    parts: Iterable[pd.DataFrame], tracer: Tracer, minimum_match: int, tolerance: float, report: dict[str, Any]
) -> Iterator[pd.DataFrame]:
    """How much of each answer is composed of spans of the corpus: the `overlap` table, in parts like the answers'.

    `coverage` is the share of tokens in greedy segments of at least `minimum_match` matched tokens (null for an answer
    without tokens), `breaks` the number of greedy segments, unmatched tokens included, and `longest_match` the longest
    span of the answer, from whatever position, that occurs in the corpus. What could not be traced has null values and
    its error.

    Parameters
    ----------
    parts : iterable of DataFrame
        The candidates table in parts: key, `finish_reason`, `error`, and the tracer's columns.
    tracer : Tracer
    minimum_match : int
        Tokens a span must have to count as copied.
    tolerance : float
        Share (0 to 1) of the answers, failed ones aside, that may stay untraced.
    report : dict
        Filled after the last part: how many `answers` there are, of which `failed_answers` (in generation),
        `empty_answers` (without a token) and `untraced_answers`, with their `failure_reasons`; how many `tokens` were
        traced; and what the tracer measured.

    Raises
    ------
    UserError
        After the last part, if a larger share than `tolerance` could not be traced.
    """
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    with progress(description="matching the corpus", unit="answer") as bar:
        for part in parts:
            answered = (part["finish_reason"].ne("error") & part["error"].isna()).to_numpy()
            answers = tracer.tokens(part[answered])
            traces = tracer.trace(answers)
            rows = []
            for usable, reason in zip(answered, part["error"], strict=True):
                trace = next(traces) if usable else Trace(None, _generation_failed(reason))
                rows.append(_row(trace, minimum_match))
                bar.update()
            labels = _table(part, rows)
            errors = labels["error"][answered].dropna()
            counts["answers"] += len(part)
            counts["failed_answers"] += len(part) - len(answers)
            counts["empty_answers"] += sum(len(token_ids) == 0 for token_ids in answers)
            counts["untraced_answers"] += len(errors)
            counts["tokens"] += sum(len(token_ids) for token_ids in answers)
            reasons.update(errors)
            yield labels
    names = ("answers", "failed_answers", "empty_answers", "untraced_answers", "tokens")
    report |= {name: counts[name] for name in names}
    report |= {"failure_reasons": dict(reasons.most_common(KEPT_REASONS)), **tracer.measured()}
    _refuse_untraced(counts, reasons, tolerance)


def _generation_failed(reason: Any) -> str:
    return "generation failed" if pd.isna(reason) else f"generation failed: {reason}"


def _row(trace: Trace, minimum_match: int) -> Row:
    """Coverage, breaks, longest match and error of an answer."""
    if trace.lengths is None:
        return None, None, None, trace.error
    segments = greedy_segments(trace.lengths)
    covered = sum(matched for _, matched in segments if matched >= minimum_match)
    tokens = len(trace.lengths)
    return covered / tokens if tokens else None, len(segments), int(np.max(trace.lengths, initial=0)), None


def _table(part: pd.DataFrame, rows: list[Row]) -> pd.DataFrame:
    labels = part[KEY].reset_index(drop=True)
    columns = zip(*rows, strict=True) if rows else ([] for _ in VALUES)
    for (name, kind), values in zip(VALUES.items(), columns, strict=True):
        labels[name] = pd.Series(list(values), dtype=kind)
    return labels


def _refuse_untraced(counts: Counter[str], reasons: Counter[str], tolerance: float) -> None:
    untraced, asked = counts["untraced_answers"], counts["answers"] - counts["failed_answers"]
    if untraced > tolerance * asked:
        causes = "\n".join(f"  {count} times: {reason}" for reason, count in reasons.most_common(SHOWN_FAILURES))
        raise UserError(
            f"{untraced} of {asked} answers could not be traced to the corpus ({untraced / asked:.1%}), and "
            f"labels.overlap.tolerance allows {tolerance:.1%}. Why, the most frequent causes:\n{causes}\n"
            "Run again when the server is well: what it answered is kept, and not asked again. Or raise the tolerance"
        )
