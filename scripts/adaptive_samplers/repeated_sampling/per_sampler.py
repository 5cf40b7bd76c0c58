"""Tables of repeated sampling for papers and the report: one row per sampler, at all of its samples."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from adaptive_samplers.evaluation import Interval
from adaptive_samplers.pages import page, paragraph, table
from adaptive_samplers.rendering import by_kind, latex_cell, latex_text, write_latex_table
from adaptive_samplers.repeated_sampling.measure import ALL, FINAL_ANSWER, VERIFIABLE


class Column(NamedTuple):
    """A column of the tables: the rows of `repeated_sampling` that it shows, at one sample or at all."""

    title: str
    method: str
    objective: str
    prompts: str
    at_one: bool = False


COLUMNS = [
    Column("pass@1", "pass_at_k", "correctness", VERIFIABLE, at_one=True),
    Column("pass@{n}", "pass_at_k", "correctness", VERIFIABLE),
    Column("best of {n}", "best_of_n", "correctness", VERIFIABLE),
    Column("pass@1", "pass_at_k", "correctness", FINAL_ANSWER, at_one=True),
    Column("pass@{n}", "pass_at_k", "correctness", FINAL_ANSWER),
    Column("best of {n}", "best_of_n", "correctness", FINAL_ANSWER),
    Column("majority of {n}", "majority_vote", "correctness", FINAL_ANSWER),
    Column("weighted majority of {n}", "weighted_majority_vote", "correctness", FINAL_ANSWER),
    Column("adaptive", "adaptive_consistency", "correctness", FINAL_ANSWER),
    Column("reward, 1", "best_of_n", "reward", ALL, at_one=True),
    Column("reward, best of {n}", "best_of_n", "reward", ALL),
]
_GROUPS = {
    VERIFIABLE: "Prompts with a verifier",
    FINAL_ANSWER: "Prompts with a final answer to vote on",
    ALL: "All prompts",
}


def rows_at(measured: pd.DataFrame, column: Column) -> pd.DataFrame:
    """The rows of a column, indexed by the sampler's name, without those that have no value."""
    rows = measured[
        (measured["method"] == column.method)
        & (measured["objective"] == column.objective)
        & (measured["prompts"] == column.prompts)
        & measured["mean"].notna()
    ]
    size = measured["n"].max()
    return rows[rows["n"] == (1 if column.at_one else size)].set_index("name")


def best_coverage_first(measured: pd.DataFrame) -> list[str]:
    """Names of all samplers, by pass@k on verifiable prompts at the most samples; those without a value come last."""
    means = rows_at(measured, COLUMNS[1])["mean"].sort_values(ascending=False, kind="stable")
    return [*means.index, *(name for name in dict.fromkeys(measured["name"]) if name not in means.index)]


def missing(measured: pd.DataFrame) -> list[str]:
    """Sentences that say what could not be measured, and why."""
    sentences = []
    size = int(measured["n"].max())
    counts = {
        kind: int(measured.loc[(measured["prompts"] == kind) & measured["mean"].notna(), "n_prompts"].max())
        if (measured["mean"].notna() & (measured["prompts"] == kind)).any()
        else 0
        for kind in (VERIFIABLE, FINAL_ANSWER)
    }
    if not counts[VERIFIABLE]:
        sentences.append("No test prompt has a verifier, so nothing tells which samples are right.")
    elif not counts[FINAL_ANSWER]:
        sentences.append("No test prompt's verifier knows a final answer, so there is nothing to vote on.")
    if (measured["judged_by"] == "rating").any():
        sentences.append(
            "There are no rewards. Best of n and weighted votes go by ratings, which are relative to the answers that "
            "met in a tournament: where these are those under one seed, ratings choose worse than the judge could."
        )
    if size < 4:
        sentences.append(
            f"With {size} sample{'s' if size > 1 else ''} of each prompt, curves are short; more seeds in the config "
            "make them longer."
        )
    return sentences


def write_latex(measured: pd.DataFrame, laws: pd.DataFrame, path: Path | str) -> None:
    """Write a LaTeX table: a row per sampler, best coverage first, without columns that have no values."""
    size = int(measured["n"].max())
    found = [(column, rows_at(measured, column)) for column in COLUMNS]
    found = [(column, rows) for column, rows in found if len(rows)]
    fits = laws[laws["a"].notna()].set_index("name")
    heads, groups = ["Sampler"], [""]
    for kind, title in _GROUPS.items():
        titles = [column.title.format(n=size) for column, _ in found if column.prompts == kind]
        if titles:
            heads += titles
            groups.append(rf"\multicolumn{{{len(titles)}}}{{c}}{{{title} ($n = {_prompts(found, kind)}$)}}")
    if len(fits):
        heads += ["$a$", "$b$"]
        groups.append(r"\multicolumn{2}{c}{pass@k $= e^{a k^b}$ (s.e.)}")

    def cells(name: str) -> list[str]:
        row = [_latex(column, rows.loc[name]) if name in rows.index else "--" for column, rows in found]
        if len(fits) and name in fits.index:
            law = fits.loc[name]
            row += [f"${law[key]:z.2f}$ (${law[key + '_stderr']:z.2f}$)" for key in ("a", "b")]
        elif len(fits):
            row += ["--", "--"]
        return [latex_text(name), *row]

    kinds = measured.drop_duplicates("name").set_index("name")["kind"]
    parts = [list(map(cells, names)) for names in by_kind(best_coverage_first(measured), kinds)]
    write_latex_table(f"l{'r' * (len(heads) - 1)}", [groups, heads], parts, path)


def _latex(column: Column, row: pd.Series) -> str:
    cell = latex_cell(row["mean"], row["low"], row["high"])
    return f"{cell}, {row['samples']:.1f} samples" if column.method == "adaptive_consistency" else cell


def _prompts(found: list[tuple[Column, pd.DataFrame]], kind: str) -> str:
    """The number of prompts behind the columns of a kind: one number or a range."""
    counts = pd.concat([rows["n_prompts"] for column, rows in found if column.prompts == kind])
    return str(counts.max()) if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"


def write_page(measured: pd.DataFrame, laws: pd.DataFrame, path: Path | str, said: str = "") -> None:
    """Write the HTML report's page: a table for each kind of prompts, the power laws, what is missing, and `said`."""
    order = best_coverage_first(measured)
    size = int(measured["n"].max())
    kinds = measured.drop_duplicates("name").set_index("name")["kind"]
    classes = [kinds[name] for name in order]
    parts = [paragraph(sentence) for sentence in missing(measured)]
    for kind, title in _GROUPS.items():
        found = [(column, rows_at(measured, column)) for column in COLUMNS if column.prompts == kind]
        found = [(column, rows) for column, rows in found if len(rows)]
        if not found:
            continue
        heads = ["sampler", *(column.title.format(n=size) for column, _ in found)]
        rows = [[name, *(_cell(column, rows, name) for column, rows in found)] for name in order]
        parts += [f"<h2>{title} (n = {_prompts(found, kind)})</h2>", table(heads, rows, classes)]
    parts.append("<h2>Power laws of coverage: pass@k = exp(a k^b)</h2>")
    fits = laws.set_index("name").loc[order]
    if fits["a"].notna().any():
        columns = ["a", "a_stderr", "b", "b_stderr", "r_squared", "largest_residual"]
        heads = ["sampler", "a", "standard error", "b", "standard error", "R\u00b2", "largest residual", ""]
        cells = [
            [row.Index, *(getattr(row, column) for column in columns), row.note or ""] for row in fits.itertuples()
        ]
        parts.append(table(heads, cells, classes))
    else:
        notes = fits["note"].value_counts()
        parts += [paragraph(f"Not fitted ({count} samplers): {note}.") for note, count in notes.items()]
    parts.append(paragraph(f"Mean over test prompts [bootstrap interval]. Learned samplers are shaded. {said}".strip()))
    page("Repeated sampling", parts, path)


def _cell(column: Column, rows: pd.DataFrame, name: str) -> str:
    if name not in rows.index:
        return "\u2013"
    interval = Interval(*rows.loc[name, list(Interval._fields)])
    text = f"{interval.mean:.3f}"
    if pd.notna(interval.low):
        text += f" [{interval.low:.3f}, {interval.high:.3f}]"
    if column.method == "adaptive_consistency":
        text += f" with {rows.loc[name, 'samples']:.1f} samples"
    return text
