"""Tables for people: comparisons as plain text, all measurements as CSV and LaTeX, the measures as Markdown.

LaTeX tables need the package booktabs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from adaptive_samplers.errors import UserError
from adaptive_samplers.evaluation import LEARNED, best_first
from adaptive_samplers.files import atomic_output
from adaptive_samplers.measures import CANDIDATES, MEASURES, OBJECTIVES

Cells = Sequence[Sequence[str]]


def _number(value: float) -> str:
    """Two decimals without a leading zero, so that four intervals and a name fit in a terminal's line."""
    text = f"{value:z.2f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def _cell(mean: float, low: float, high: float) -> str:
    if pd.isna(mean):
        return "-"
    if pd.isna(low):
        return _number(mean)
    return f"{_number(mean)} [{_number(low)}, {_number(high)}]"


def _cells(comparison: pd.DataFrame, objective: str) -> dict[str, str]:
    rows = comparison[comparison["objective"] == objective]
    columns = (rows[column] for column in ("name", "mean", "low", "high"))
    return {name: _cell(*values) for name, *values in zip(*columns, strict=True)}


def _prompts_counted(comparison: pd.DataFrame, objective: str) -> str:
    counts = comparison.loc[comparison["objective"] == objective, "n_prompts"]
    if counts.empty:
        return "n = 0"
    return f"n = {counts.min()}" if counts.min() == counts.max() else f"n = {counts.min()} to {counts.max()}"


def render_table(comparison: pd.DataFrame, objectives: Sequence[str], width: int = 100) -> str:
    """The comparison as plain text: a row per sampler, best quality first, learned ones with an asterisk.

    A name that does not fit next to its numbers within `width` columns is on its own line above them.
    Samplers are ordered by the first of the objectives if quality is not among them.
    """
    order = best_first(comparison, "quality" if "quality" in objectives else objectives[0])
    learned = set(comparison.loc[comparison["kind"] == LEARNED, "name"])
    cells = {objective: _cells(comparison, objective) for objective in objectives}
    heads = {objective: (objective, _prompts_counted(comparison, objective)) for objective in objectives}
    widths = {
        objective: max(map(len, [*heads[objective], *cells[objective].values()]), default=0) for objective in objectives
    }
    numbers_width = sum(widths.values()) + 2 * len(widths)
    titles = {name: f"* {name}" if name in learned else f"  {name}" for name in order}
    fitting = [len(title) for title in titles.values() if len(title) <= width - numbers_width]
    name_width = max([len("  sampler"), *fitting])
    lines = []
    for position, title in enumerate(["  sampler", ""]):
        texts = (heads[objective][position].rjust(widths[objective]) for objective in objectives)
        lines.append("  ".join([title.ljust(name_width), *texts]))
    lines.append("-" * (name_width + numbers_width))
    for name, title in titles.items():
        numbers = (cells[objective].get(name, "-").rjust(widths[objective]) for objective in objectives)
        if len(title) > name_width:
            lines.append(title)
            title = ""
        lines.append("  ".join([title.ljust(name_width), *numbers]))
    lines.append("-" * (name_width + numbers_width))
    lower = [objective for objective in objectives if not OBJECTIVES[objective].higher_is_better]
    lines.append("* learned sampler; mean [low, high]: bootstrap interval over n test prompts")
    if lower:
        lines.append(f"More is better, except for {', '.join(lower)}.")
    return "\n".join(lines)


_LATEX = str.maketrans(
    {
        **{character: "\\" + character for character in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
    }
)


def latex_text(text: str) -> str:
    """`text` as LaTeX shows it, whatever characters it holds."""
    return text.translate(_LATEX)


def latex_cell(mean: float, low: float, high: float) -> str:
    """A mean with its interval, two decimals, for a LaTeX table."""
    if pd.isna(mean):
        return "--"
    # `z` keeps a rounded zero from showing as -0.00.
    return f"${mean:z.2f}$" if pd.isna(low) else f"${mean:z.2f}$ [${low:z.2f}$, ${high:z.2f}$]"


def write_csv(table: pd.DataFrame, path: Path | str) -> None:
    """Write every row and digit of a table."""
    with atomic_output(path) as temporary:
        table.to_csv(temporary, index=False)


def write_latex_table(columns: str, heads: Cells, parts: Sequence[Cells], path: Path | str) -> None:
    r"""Write a LaTeX table.

    Parameters
    ----------
    columns : their alignment, as in `tabular`.
    heads, parts : rows of cells that are LaTeX already; a line is drawn above each part.
    """
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    for rows in (heads, *parts):
        lines += [" & ".join(cells) + r" \\" for cells in rows] + [r"\midrule"]
    lines[-1:] = [r"\bottomrule", r"\end{tabular}", ""]
    with atomic_output(path) as temporary:
        temporary.write_text("\n".join(lines))


def by_kind(names: Sequence[str], kinds: Mapping[str, str]) -> list[list[str]]:
    """Names of samplers, heuristics first and then learned ones, in two lists or in the one that is not empty."""
    parts = ([name for name in names if kinds[name] == kind] for kind in ("heuristic", LEARNED))
    return [part for part in parts if part]


def write_tables(comparison: pd.DataFrame, csv_path: Path | str, tex_path: Path | str, said: str = "") -> None:
    """Write the comparison for people: every row and digit as CSV, and a LaTeX table for a paper.

    The LaTeX table has a row per sampler and a column per objective, heuristics first and then learned
    samplers, the best first in each. `said` stands below it, and in a column `note` of the CSV.
    """
    write_csv(comparison.assign(note=said) if said else comparison, csv_path)
    objectives = list(dict.fromkeys(comparison["objective"]))
    order = best_first(comparison, "quality" if "quality" in objectives else objectives[0])
    kinds = comparison.drop_duplicates("name").set_index("name")["kind"]
    wide = comparison.set_index(["name", "objective"])[["mean", "low", "high"]]
    heads = ["Sampler", *map(latex_text, objectives)]
    parts = [
        [[latex_text(name), *(latex_cell(*wide.loc[name, objective]) for objective in objectives)] for name in names]
        for names in by_kind(order, kinds)
    ]
    if said:
        parts.append([[rf"\multicolumn{{{1 + len(objectives)}}}{{l}}{{{latex_text(said)}}}"]])
    write_latex_table(f"l{'r' * len(objectives)}", [heads], parts, tex_path)


def write_learnability(rows: pd.DataFrame, csv_path: Path | str, tex_path: Path | str) -> None:
    """Write how well architectures learn heuristics: every number as CSV, and KL divergences as LaTeX for a paper.

    The LaTeX table has a row per heuristic and a column per architecture, next to that of the raw logits.
    """
    write_csv(rows, csv_path)
    architectures = list(dict.fromkeys(rows["architecture"]))
    divergences = rows.set_index(["heuristic", "architecture"])["kl"]
    raw = rows.drop_duplicates("heuristic").set_index("heuristic")["identity_kl"]
    cells = []
    for heuristic in raw.index:
        values = [raw[heuristic], *(divergences[heuristic, architecture] for architecture in architectures)]
        cells.append([latex_text(heuristic), *(f"{value:.4f}" for value in values)])
    heads = ["Heuristic", "raw logits", *architectures]
    write_latex_table(f"l{'r' * (1 + len(architectures))}", [heads], [cells], tex_path)


MEASURES_BEGIN = "<!-- measures: begin (written by scripts/document_config.py) -->"
MEASURES_END = "<!-- measures: end -->"


def with_measures(text: str) -> str:
    """The text of docs/tables.md with its table of measures regenerated."""
    rows = [["measure", "table", "unit", "better", "objective", "meaning"], ["---"] * 6]
    better = {None: "", True: "higher", False: "lower"}
    for measure in MEASURES.values():
        if measure.table != CANDIDATES:
            words = [measure.unit or "", better[measure.higher_is_better], measure.objective, measure.meaning]
            rows.append([f"*{measure.column}*", measure.table, *words])
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    before, _, rest = text.partition(MEASURES_BEGIN)
    _, end, after = rest.partition(MEASURES_END)
    if not end:
        raise UserError(f"docs/tables.md lacks the lines '{MEASURES_BEGIN}' and '{MEASURES_END}'")
    return f"{before}{MEASURES_BEGIN}\n\n{table}\n\n{MEASURES_END}{after}"
