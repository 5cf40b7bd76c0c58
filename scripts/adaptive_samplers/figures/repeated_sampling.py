"""The value of repeated sampling: coverage by the number of samples, and ways of choosing among them."""

import re
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from adaptive_samplers.config.model import Config
from adaptive_samplers.evaluation import BASE, LEARNED
from adaptive_samplers.figures.style import (
    BLACK,
    BLUE,
    GRAY,
    GREEN,
    LEARNED_COLOR,
    LIGHT_GRAY,
    LINE_HEIGHT,
    ORANGE,
    PURPLE,
    new_figure,
    style,
)
from adaptive_samplers.repeated_sampling.coverage import PowerLaw
from adaptive_samplers.repeated_sampling.measure import ALL, FINAL_ANSWER, VERIFIABLE
from adaptive_samplers.tables import read_table

_PANEL_HEIGHT = 2.7  # inches
_LONGEST_LINE = 24  # characters of a name over a panel
_ENTRY = 1.25  # lines of the key that a one-line entry takes, with its spacing
_BASE, _HEURISTIC, _LEARNED = "base", "heuristic", "learned"
_SIGNS: dict[str, dict[str, Any]] = {
    _BASE: {"color": BLACK, "marker": "o", "markersize": 4.5},
    _HEURISTIC: {"color": BLUE, "marker": "s", "markersize": 4.5},
    _LEARNED: {"color": LEARNED_COLOR, "marker": "*", "markersize": 8},
}
_ROLES = {
    _BASE: "the language model as it is",
    _HEURISTIC: "the best other heuristic",
    _LEARNED: "the best learned sampler",
}
_OTHERS = {"color": LIGHT_GRAY, "linewidth": 0.8, "zorder": 1}
_LAW = {"linewidth": 1.4, "linestyle": (0, (1, 1.5)), "zorder": 2}
_WHISKER = {"linewidth": 0.9, "alpha": 0.7, "zorder": 2}
_APART = 0.013  # of the axis, between the curves of two methods
_METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "pass_at_k": ("any is right (pass@k)", {"color": BLACK, "marker": "o", "linestyle": (0, (4, 2))}),
    "best_of_n": ("the judge's best (best of n)", {"color": ORANGE, "marker": "s"}),
    "majority_vote": ("majority vote", {"color": BLUE, "marker": "^"}),
    "weighted_majority_vote": ("majority vote, weighted by the judge", {"color": PURPLE, "marker": "D"}),
    "adaptive_consistency": (
        "majority vote until settled, at its mean samples",
        {"color": GREEN, "marker": "P", "markersize": 8, "linestyle": ""},
    ),
}
_KINDS = {VERIFIABLE: "prompts with a verifier", FINAL_ANSWER: "prompts with a final answer", ALL: "all prompts"}


def coverage(measured: pd.DataFrame, laws: pd.DataFrame) -> Figure:
    """pass@k and the expected reward of the best of n, by the number of samples, a line per sampler.

    Three samplers stand out, with their intervals and, of pass@k, the power law fitted to it: the language model as it
    is, and the best other heuristic and the best learned sampler by what a panel shows, at the most samples.

    Parameters
    ----------
    measured : DataFrame
        A `repeated_sampling` table. A panel without any value is left out; without any at all, the figure says so.
    laws : DataFrame
        The `power_laws` table.
    """
    panels = [
        ("pass_at_k", "correctness", VERIFIABLE, "Coverage (pass@k)", "Samples, k"),
        ("best_of_n", "reward", ALL, "Reward of the best of n", "Samples, n"),
    ]
    found = [(panel, _rows(measured, *panel[:3])) for panel in panels]
    found = [(panel, rows) for panel, rows in found if len(rows)]
    with style():
        if not found:
            return _empty("Nothing to show: no test prompt has a verifier, and the judge gives no rewards.")
        keys = [_key(rows, laws) for _, rows in found]
        key_height = 0.1 + max(sum(_ENTRY + line.get_label().count("\n") for line in key) for key in keys) * LINE_HEIGHT
        figure = new_figure(height=_PANEL_HEIGHT + key_height)
        upper, lower = figure.subfigures(2, height_ratios=[_PANEL_HEIGHT, key_height])
        grid = upper.subplots(1, len(found), squeeze=False)[0]
        for place, (axes, (panel, rows), key) in enumerate(zip(grid, found, keys, strict=True)):
            method, _, kind, label, unit = panel
            outstanding = _outstanding(rows)
            for name, curve in rows.groupby("name", sort=False):
                if name not in outstanding.values():
                    axes.plot(curve["n"], curve["mean"], **_OTHERS)
            for role, name in outstanding.items():
                curve = rows[rows["name"] == name]
                color = _SIGNS[role]["color"]
                axes.fill_between(curve["n"], curve["low"], curve["high"], color=color, alpha=0.12, linewidth=0)
                law = _law(rows, laws, name)
                axes.plot(curve["n"], curve["mean"], zorder=3, **_sign(role, law))
                if law is not None:
                    counts = np.geomspace(1, curve["n"].max(), 60)
                    axes.plot(counts, law(counts), color=color, **_LAW)
            _number_axis(axes, rows["n"])
            if method == "pass_at_k":
                _share_axis(axes)
            axes.set_xlabel(unit)
            axes.set_ylabel(label)
            axes.set_title(f"{_capital(_KINDS[kind])} (n = {_prompts(rows)})", loc="left")
            lower.legend(handles=key, loc="upper left", bbox_to_anchor=(place / len(found), 1), borderaxespad=0)
    return figure


def selecting(measured: pd.DataFrame) -> Figure:
    """Accuracy by the number of samples, a line per way of choosing one of them; pass@k is what none of them can beat.

    A row of panels for the prompts with a verifier, and one for those with a final answer to vote on; a column each
    for the language model as it is, the best other heuristic and the best learned sampler by pass@k.

    Parameters
    ----------
    measured : DataFrame
        A `repeated_sampling` table. Without any value of correctness, the figure says so.
    """
    accuracy = measured[(measured["objective"] == "correctness") & measured["mean"].notna()]
    kinds = [kind for kind in (VERIFIABLE, FINAL_ANSWER) if (accuracy["prompts"] == kind).any()]
    with style():
        if not kinds:
            return _empty("Nothing to show: no test prompt has a verifier.")
        columns = _outstanding(_rows(accuracy, "pass_at_k", "correctness", kinds[0]))
        figure = new_figure(height=0.9 + 2.1 * len(kinds) + 3 * LINE_HEIGHT)
        grid = figure.subplots(len(kinds), len(columns), squeeze=False, sharey=True, sharex=True)
        shown = set()
        for line, kind in zip(grid, kinds, strict=True):
            for axes, (role, name) in zip(line, columns.items(), strict=True):
                rows = accuracy[(accuracy["prompts"] == kind) & (accuracy["name"] == name)]
                for place, (method, (_, sign)) in enumerate(_METHODS.items()):
                    curve = rows[rows["method"] == method]
                    if len(curve):
                        shown.add(method)
                        # Side by side, so that equal curves do not hide each other.
                        samples = curve["samples"] * accuracy["n"].max() ** (_APART * (place - 2))
                        axes.plot(samples, curve["mean"], zorder=3, **({"markersize": 4.5} | sign))
                        # Only the interval at the most samples: more would hide the curves.
                        low, high = curve[["low", "high"]].iloc[-1]
                        axes.plot([samples.iloc[-1]] * 2, [low, high], **_WHISKER, color=sign["color"])
                _number_axis(axes, accuracy["n"])
                _share_axis(axes)
                if kind == kinds[0]:
                    axes.set_title(f"{_capital(_ROLES[role])}\n{_broken(name)}", loc="left")
                if kind == kinds[-1]:
                    axes.set_xlabel("Samples")
            rows = accuracy[(accuracy["prompts"] == kind) & accuracy["name"].isin(columns.values())]
            line[0].set_ylabel(f"Accuracy on\n{_KINDS[kind]}\n(n = {_prompts(rows)})")
        handles = [
            Line2D([], [], label=label, **({"markersize": 4.5} | sign))
            for method, (label, sign) in _METHODS.items()
            if method in shown
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=2)
    return figure


def _rows(measured: pd.DataFrame, method: str, objective: str, kind: str) -> pd.DataFrame:
    return measured[
        (measured["method"] == method)
        & (measured["objective"] == objective)
        & (measured["prompts"] == kind)
        & measured["mean"].notna()
    ]


def _outstanding(rows: pd.DataFrame) -> dict[str, str]:
    """The base, if it is there, and the best other heuristic and learned sampler at the most samples, the first of
    equals; names by role."""
    last = rows[rows["n"] == rows["n"].max()]
    found = {_BASE: BASE} if (last["name"] == BASE).any() else {}
    others = last[last["name"] != BASE]
    for role, chosen in ((_HEURISTIC, others["kind"] != LEARNED), (_LEARNED, others["kind"] == LEARNED)):
        if chosen.any():
            found[role] = others[chosen].sort_values("mean", ascending=False, kind="stable")["name"].iloc[0]
    return found


def _law(rows: pd.DataFrame, laws: pd.DataFrame, name: str) -> PowerLaw | None:
    """The power law of a sampler in a panel of pass@k, if it was fitted."""
    found = laws[(laws["name"] == name) & laws["a"].notna()]
    if rows["method"].iloc[0] != "pass_at_k" or found.empty:
        return None
    return PowerLaw(*found.iloc[0][list(PowerLaw._fields)].astype(float))


def _sign(role: str, law: PowerLaw | None) -> dict[str, Any]:
    """How a sampler that stands out is drawn: points alone where the line is that of its power law."""
    return _SIGNS[role] if law is None else _SIGNS[role] | {"linestyle": ""}


def _key(rows: pd.DataFrame, laws: pd.DataFrame) -> list[Line2D]:
    """The key of a panel of `coverage`: the samplers that stand out, with their laws, and the others."""
    entries, fitted = [], False
    outstanding = _outstanding(rows)
    for role, name in outstanding.items():
        text = f"{_ROLES[role]}:\n{_broken(name)}"
        law = _law(rows, laws, name)
        if law is not None:
            fitted = True
            text += f"\na = {law.a:.2f} \u00b1 {law.a_stderr:.2f}, b = {law.b:.2f} \u00b1 {law.b_stderr:.2f}"
        entries.append(Line2D([], [], label=text, **_sign(role, law)))
    if rows["name"].nunique() > len(outstanding):
        entries.append(Line2D([], [], label="each other sampler", **_OTHERS))
    if fitted:
        entries.append(Line2D([], [], color=GRAY, label="exp(a k^b), \u00b1 one standard error", **_LAW))
    return entries


def _number_axis(axes: Axes, counts: pd.Series) -> None:
    """A logarithmic axis with a tick at each number of samples, except those too close to the next to be read."""
    shown: list[int] = []
    for count in sorted(set(counts), reverse=True):
        if not shown or count <= shown[-1] / 1.45:
            shown.append(count)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(shown, labels=[str(count) for count in shown])
    axes.grid()


def _share_axis(axes: Axes) -> None:
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks(np.linspace(0, 1, 6))


def _prompts(rows: pd.DataFrame) -> str:
    low, high = rows["n_prompts"].min(), rows["n_prompts"].max()
    return str(low) if low == high else f"{low} to {high}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _broken(name: str) -> str:
    """A name on lines that fit over a panel: an architecture apart from its training set, a pipeline between steps."""
    if " " in name:
        return name.replace(" ", "\n", 1)
    lines = [""]
    for step in re.findall(r"[^+]*\+?", name):
        if lines[-1] and len(lines[-1] + step) > _LONGEST_LINE:
            lines.append("")
        lines[-1] += step
    return "\n".join(lines)


def _empty(sentence: str) -> Figure:
    figure = new_figure(height=1.0)
    figure.text(0.5, 0.5, sentence, ha="center", va="center")
    return figure


def draw(files: Any, settings: Config) -> dict[str, Figure]:
    """The figures of the rule `plot_repeated_sampling`."""
    measured = read_table("repeated_sampling", files.measured)
    return {
        "coverage": coverage(measured, read_table("power_laws", files.power_laws)),
        "selecting": selecting(measured),
    }
