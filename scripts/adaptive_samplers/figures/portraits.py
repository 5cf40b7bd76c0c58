"""What learned samplers are: the nearest heuristics, what they do to distributions, their formulas, what they read."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from adaptive_samplers.config.model import Config
from adaptive_samplers.figures.style import (
    BLACK,
    BLUE,
    GRAY,
    LIGHT_GRAY,
    LINE_HEIGHT,
    ORANGE,
    WIDTH,
    Mark,
    architecture_marks,
    family_marks,
    new_figure,
    style,
    text_width,
)
from adaptive_samplers.portraits.tables import Portrait, copied, read_portraits, rows_of

FAMILIES_SHOWN = 6
# Of the divergence: what explains less beyond a temperature explains nothing beyond it.
LEAST_GAIN = 0.001
_COLUMNS = 2
_LEGEND_COLUMNS = 3
_QUANTITIES = {
    "effective_temperature": "Effective temperature",
    "kept_mass": "Raw probability of\nthe tokens with 99 %",
    "kept_count": "Number of tokens\nwith 99 %",
}
_ENTROPY_COLORS = (ORANGE, BLUE, BLACK)
_LOWEST_CHANGE = -12.0  # nats


def nearest_heuristics(portraits: Sequence[Portrait]) -> Figure:
    """A panel per sampler: of the nearest families, how much of the raw logits' divergence each explains.

    The chain of each family is written above its bar.
    """
    columns = min(_COLUMNS, len(portraits))
    lines = math.ceil(len(portraits) / columns)
    families = family_marks(row["family"] for portrait in portraits for row in portrait["heuristics"])
    with style():
        figure = new_figure(height=lines * (2 * FAMILIES_SHOWN + 4.5) * LINE_HEIGHT)
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes in grid[len(portraits) :]:
            axes.set_axis_off()
        for axes, portrait in zip(grid, portraits, strict=False):
            shown = _nearest_of_families(portrait)
            for place, row in enumerate(shown.itertuples()):
                axes.barh(place, max(row.explained, 0), height=0.36, color=families[row.family].color)
                if row.explained > 0:
                    axes.hlines(place, max(row.explained_low, 0), row.explained_high, color=GRAY, linewidth=1)
                axes.text(0, place - 0.24, _in_words(row.processors), va="bottom")
                axes.text(1.02, place, f"{100 * row.explained:.1f} %", va="center")
            axes.set_yticks([])
            axes.set_ylim(FAMILIES_SHOWN - 0.6, -0.9)
            axes.set_xlim(0, 1)
            axes.set_xticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25 %", "50 %", "75 %", "100 %"])
            axes.set_xlabel("KL divergence explained")
            raw = portrait["heuristics"][0]["kl_raw"]
            axes.set_title(f"{_two_lines(portrait['name'])}\n{raw:.3f} nats from the raw logits", loc="left")
    return figure


def _nearest_of_families(portrait: Portrait) -> pd.DataFrame:
    """The nearest chain of each family, the nearest families and a temperature; none if a sampler changes nothing.

    Where a family's chain does nothing that a temperature alone does not, it is the family without a temperature.
    """
    rows = pd.DataFrame(portrait["heuristics"]).dropna(subset="explained").sort_values("kl", kind="stable")
    alone = rows["chain"] == "temperature"
    gain = rows["explained"] - rows[alone]["explained"].max()
    shown = rows[alone | (gain > LEAST_GAIN) | ((rows["steps"] == 1) & (gain < -LEAST_GAIN))].drop_duplicates("family")
    is_temperature = shown["chain"] == "temperature"
    return pd.concat([shown[~is_temperature].head(FAMILIES_SHOWN - 1), shown[is_temperature]]).sort_values("kl")


def _in_words(processors: str) -> str:
    """`temperature(0.85)+min_p(0.1)`."""
    steps = json.loads(processors)
    return "+".join(f"{step['name']}({', '.join(map(_short, step['params'].values()))})" for step in steps)


def _short(value: float) -> str:
    # 0.999 and 1 are not the same cut.
    digits = 3 if 0.9 < value < 1 else 2
    return f"{value:.{digits}g}" if value < 100 else f"{value:.0f}"


def _two_lines(name: str) -> str:
    """A sampler's architecture, and on a line of its own the rest of its name."""
    return "\n".join(_parts(name))


def _parts(name: str) -> tuple[str, str]:
    architecture, _, lesson = name.partition(" ")
    return architecture, lesson


def _by_lesson(portraits: Iterable[Portrait]) -> dict[str, list[Portrait]]:
    """Samplers that differ in their architecture alone."""
    found: dict[str, list[Portrait]] = {}
    for portrait in portraits:
        found.setdefault(_parts(portrait["name"])[1], []).append(portrait)
    return found


def effective_temperatures(portraits: Sequence[Portrait]) -> Figure:
    """A row per lesson: effective temperature, kept probability and kept tokens by raw entropy, in bins of states.

    Lines are medians with shaded quartiles, solid for learned samplers and dashed for the heuristic nearest to each;
    gray for the raw logits.
    """
    lessons = _by_lesson(portraits)
    marks = architecture_marks(portrait["architecture"] for portrait in portraits)
    with style():
        legend_height = LINE_HEIGHT * 1.3 * math.ceil((2 + len(marks)) / _LEGEND_COLUMNS) + 0.1
        body_height = 2.3 * len(lessons)
        figure = new_figure(height=legend_height + body_height)
        top, body = figure.subfigures(2, height_ratios=[legend_height, body_height])
        grid = body.subplots(len(lessons), len(_QUANTITIES), squeeze=False, sharex=True, sharey="col")
        for line, (lesson, samplers) in zip(grid, lessons.items(), strict=True):
            rows = rows_of(samplers, "effects")
            for axes, (quantity, label) in zip(line, _QUANTITIES.items(), strict=True):
                of = rows[rows["quantity"] == quantity]
                for (architecture, which), bins in of.groupby(["architecture", "of"], sort=False):
                    _draw_bins(axes, bins, which, marks[architecture])
                if quantity == "effective_temperature":
                    axes.axhline(1, color=GRAY, linewidth=1.2, zorder=0.5)
                if quantity == "kept_count":
                    axes.set_yscale("log")
                    axes.yaxis.set_major_formatter("{x:g}")
                    axes.yaxis.set_minor_formatter(NullFormatter())
                axes.set_ylabel(label)
                axes.grid(axis="y")
            line[0].set_title(lesson, loc="left")
        for axes in grid[-1]:
            axes.set_xlabel("Raw entropy (nats)")
        handles = {
            name: Line2D([], [], color=mark.color, marker=mark.marker, markersize=4) for name, mark in marks.items()
        }
        handles["its nearest heuristic"] = Line2D([], [], color=BLACK, linestyle="--", linewidth=1)
        handles["raw logits"] = Line2D([], [], color=GRAY, linewidth=1.2)
        top.legend(handles.values(), handles.keys(), loc="center left", ncols=_LEGEND_COLUMNS)
    return figure


def _draw_bins(axes: Axes, bins: pd.DataFrame, which: str, mark: Mark) -> None:
    at = bins["entropy"]
    if which == "learned":
        axes.fill_between(at, bins["lower_quartile"], bins["upper_quartile"], color=mark.color, alpha=0.15, linewidth=0)
        axes.plot(at, bins["median"], color=mark.color, marker=mark.marker, markersize=4, markeredgewidth=0)
    elif which == "raw":
        axes.plot(at, bins["median"], color=GRAY, linewidth=1.2, zorder=0.5)
    else:
        axes.plot(at, bins["median"], color=mark.color, linestyle="--", linewidth=1)


def closed_forms(portraits: Sequence[Portrait]) -> Figure:
    """A panel per sampler: what it adds to log-probabilities in states of three entropies, and what its closed form
    does, dashed."""
    lessons = _by_lesson(portraits)
    columns = max(map(len, lessons.values()))
    with style():
        legend_height = LINE_HEIGHT * 1.3 * 2 + 0.1
        body_height = 2.75 * len(lessons)
        figure = new_figure(height=legend_height + body_height)
        top, body = figure.subfigures(2, height_ratios=[legend_height, body_height])
        grid = body.subplots(len(lessons), columns, squeeze=False, sharey=True)
        for line, samplers in zip(grid, lessons.values(), strict=True):
            for axes in line[len(samplers) :]:
                axes.set_axis_off()
            line[0].set_ylabel("Change of log-probability (nats)")
            for axes, portrait in zip(line, samplers, strict=False):
                for curve, color in zip(portrait["curves"], _ENTROPY_COLORS, strict=True):
                    at = curve["log_prob"]
                    axes.plot(
                        at, [max(y, _LOWEST_CHANGE) for y in curve["learned"]], color=color, linewidth=2.2, alpha=0.45
                    )
                    axes.plot(at, [max(y, _LOWEST_CHANGE) for y in curve["closed_form"]], color=color, linestyle="--")
                axes.axhline(0, color=LIGHT_GRAY, linewidth=0.8, zorder=0.5)
                axes.set_xlabel("Raw log-probability (nats)")
                form = copied(portrait)
                share = "" if form["explained"] is None else f", {100 * form['explained']:.1f} % explained"
                lines = [*_parts(portrait["name"]), f"{form['parameters']} numbers{share}"]
                width = WIDTH / columns - 0.55
                axes.set_title("\n".join(_fitted(figure, text, width) for text in lines), loc="left")
        entropies = [
            sorted(curve["entropy"] for curve in same)
            for same in zip(*(portrait["curves"] for portrait in portraits), strict=True)
        ]
        handles = {
            f"entropy {values[len(values) // 2]:.1f} nats": Line2D([], [], color=color)
            for values, color in zip(entropies, _ENTROPY_COLORS, strict=True)
        }
        handles["learned"] = Line2D([], [], color=GRAY, linewidth=2.2, alpha=0.6)
        handles["closed form"] = Line2D([], [], color=GRAY, linestyle="--")
        top.legend(handles.values(), handles.keys(), loc="center left", ncols=_LEGEND_COLUMNS)
    return figure


def _fitted(figure: Figure, text: str, width: float) -> str:
    """The text, or as much of its beginning as fits in `width` inches."""
    if text_width(figure, text) <= width:
        return text
    while text_width(figure, text + "\u2026") > width:
        text = text[:-1]
    return text + "\u2026"


def statistics(portraits: Sequence[Portrait]) -> Figure:
    """What samplers read, a row per lesson.

    On the left, how far shuffling a statistic moves a sampler that reads it. On the right, how much of the variance of
    the effective temperature's logarithm a statistic tells: alone, and beyond the others.
    """
    lessons = _by_lesson(portraits)
    marks = architecture_marks(portrait["architecture"] for portrait in portraits)
    rows = rows_of(portraits, "statistics")
    columns = [_distinct(rows[rows["method"] == method]["statistic"]) for method in ("permutation", "regression")]
    with style():
        legend_height = LINE_HEIGHT * 1.3 * math.ceil((2 + len(marks)) / _LEGEND_COLUMNS) + 0.1
        body_height = (LINE_HEIGHT * 1.5 * max(5, *map(len, columns)) + 0.95) * len(lessons)
        figure = new_figure(height=legend_height + body_height)
        top, body = figure.subfigures(2, height_ratios=[legend_height, body_height])
        parts = body.subfigures(len(lessons), 1, squeeze=False).ravel()
        for part, (lesson, samplers) in zip(parts, lessons.items(), strict=True):
            part.suptitle(lesson, x=0.01, ha="left")
            left, right = part.subplots(1, 2)
            own = rows_of(samplers, "statistics")
            _draw_permutation(left, own[own["method"] == "permutation"], columns[0], marks)
            _draw_regression(right, own[own["method"] == "regression"], columns[1], marks)
        handles = {
            name: Line2D([], [], color=mark.color, marker=mark.marker, linestyle="", markersize=5)
            for name, mark in marks.items()
        }
        handles["R\u00b2 alone"] = Line2D([], [], color=GRAY, marker="o", linestyle="", markersize=5)
        handles["R\u00b2 lost without it"] = Line2D(
            [], [], color=GRAY, marker="o", linestyle="", markersize=5, markerfacecolor="white"
        )
        top.legend(handles.values(), handles.keys(), loc="center left", ncols=_LEGEND_COLUMNS)
    return figure


def _distinct(names: pd.Series) -> list[str]:
    return list(dict.fromkeys(names.dropna()))


def _draw_permutation(axes: Axes, rows: pd.DataFrame, names: Sequence[str], marks: dict[str, Mark]) -> None:
    read = rows.dropna(subset="statistic")
    without = _distinct(rows[rows["statistic"].isna()]["architecture"])
    note = "".join(f"\n{name}" for name in without)
    if read.empty:
        axes.set_axis_off()
        axes.text(0.5, 0.5, f"Reads no statistics:{note}", ha="center", va="center", transform=axes.transAxes)
        return
    for row, place in _placed(read, names, marks):
        mark = marks[row.architecture]
        axes.hlines(place, row.kl_low, row.kl_high, color=mark.color, linewidth=1.2)
        axes.plot(row.kl, place, mark.marker, color=mark.color, markersize=5, markeredgewidth=0)
    _finish(axes, names, "KL where shuffled (nats)")
    if without:
        axes.set_title(f"Reads no statistics:{note}", loc="right", ha="right", color=GRAY)


def _draw_regression(axes: Axes, rows: pd.DataFrame, names: Sequence[str], marks: dict[str, Mark]) -> None:
    for row, place in _placed(rows.dropna(subset="statistic"), names, marks):
        mark = marks[row.architecture]
        options = {"color": mark.color, "markersize": 5, "clip_on": False}
        axes.plot(max(row.r_squared, 0), place, mark.marker, markeredgewidth=0, **options)
        if pd.notna(row.lost_r_squared):
            axes.plot(max(row.lost_r_squared, 0), place, mark.marker, markerfacecolor="white", **options)
    _finish(axes, names, "R\u00b2 of the effective temperature")
    axes.set_xlim(0, 1)


def _placed(rows: pd.DataFrame, names: Sequence[str], marks: dict[str, Mark]) -> Iterator[tuple[Any, float]]:
    """Each row with its place on an axis of names, architectures apart."""
    order = list(marks)
    for row in rows.itertuples():
        shift = (order.index(row.architecture) - (len(order) - 1) / 2) * 0.5 / len(order)
        yield row, names.index(row.statistic) + shift


def _finish(axes: Axes, names: Sequence[str], label: str) -> None:
    axes.set_yticks(range(len(names)), labels=[name.replace("log-probability", "log-prob.") for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(label)
    axes.grid(axis="x")


def draw(files: Any, settings: Config) -> dict[str, Figure]:
    """The figures of the rule `plot_portraits`."""
    portraits = read_portraits(files.portraits)
    return {
        "portraits": nearest_heuristics(portraits),
        "effective_temperature": effective_temperatures(portraits),
        "closed_form": closed_forms(portraits),
        "statistics": statistics(portraits),
    }
