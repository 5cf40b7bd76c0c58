"""Tables of portraits, from the files of the rule `portray_sampler`; nothing here needs torch."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adaptive_samplers.files import atomic_output, read_json
from adaptive_samplers.rendering import latex_text, write_csv, write_latex_table

Portrait = dict[str, Any]

STATISTICS = [
    *("name", "architecture", "method", "statistic", "kl", "kl_low", "kl_high", "r_squared", "lost_r_squared", "note"),
]


def read_portraits(paths: Iterable[Path | str]) -> list[Portrait]:
    """The portraits of all samplers, in the order of files; a sampler that takes a preference has one for each."""
    return list(itertools.chain.from_iterable(read_json(path)["portraits"] for path in paths))


def rows_of(portraits: Sequence[Portrait], part: str) -> pd.DataFrame:
    """One of the lists of rows of all portraits, with the sampler's name and architecture first."""
    return pd.DataFrame(
        [
            {"name": portrait["name"], "architecture": portrait["architecture"], **row}
            for portrait in portraits
            for row in portrait[part]
        ]
    )


def write_portraits(
    portraits: Sequence[Portrait],
    portraits_csv: str,
    portraits_tex: str,
    effects_csv: str,
    closed_form_csv: str,
    closed_form_txt: str,
    statistics_csv: str,
) -> None:
    """Write all tables and the closed forms to copy."""
    heuristics = rows_of(portraits, "heuristics")
    write_csv(heuristics, portraits_csv)
    write_csv(rows_of(portraits, "effects"), effects_csv)
    write_csv(rows_of(portraits, "closed_forms"), closed_form_csv)
    write_csv(rows_of(portraits, "statistics").reindex(columns=STATISTICS), statistics_csv)
    with atomic_output(closed_form_txt) as temporary:
        temporary.write_text("\n\n".join(map(_formula, portraits)) + "\n", encoding="utf-8")
    _write_latex(portraits, heuristics, portraits_tex)


def copied(portrait: Portrait) -> dict[str, Any]:
    """The row of the closed form that is written out."""
    [row] = [row for row in portrait["closed_forms"] if row["copied"]]
    return row


def _formula(portrait: Portrait) -> str:
    row = copied(portrait)
    explained = "" if row["explained"] is None else f", {100 * row['explained']:.1f} % explained"
    return (
        f"# {portrait['name']}\n# held-out KL from the sampler {row['kl']:.6f} nats, of the raw logits "
        f"{row['kl_raw']:.6f}{explained}\n{portrait['snippet']}"
    )


def _write_latex(portraits: Sequence[Portrait], heuristics: pd.DataFrame, path: str) -> None:
    """A row per sampler: the nearest temperature, single heuristic and chain, and the closed form to copy."""
    rows = []
    for portrait in portraits:
        of = heuristics[heuristics["name"] == portrait["name"]]
        kinds = [of[of["chain"] == "temperature"], of[of["steps"] == 1], of[of["steps"] > 1]]
        cells = [latex_text(portrait["name"]), f"{of['kl_raw'].iloc[0]:.4f}"]
        for kind in kinds:
            best = kind.loc[kind["kl"].idxmin()]
            cells += [latex_text(best["heuristic"]), _share(best)]
        form = copied(portrait)
        rows.append([*cells, str(form["parameters"]), _share(form)])
    heads = ["Sampler", "KL", "temperature", "", "heuristic", "", "chain", "", "closed form", ""]
    below = ["", "raw", *["", "explained"] * 3, "numbers", "explained"]
    write_latex_table("lrlrlrlrrr", [heads, below], [rows], path)


def _share(row: Any) -> str:
    """The share explained with its interval, in percent."""
    if pd.isna(row["explained"]):
        return "--"
    value, low, high = (100 * row[name] for name in ("explained", "explained_low", "explained_high"))
    return f"${value:z.1f}$ [${low:z.1f}$, ${high:z.1f}$]"
