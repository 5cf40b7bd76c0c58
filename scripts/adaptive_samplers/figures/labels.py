"""How labels are distributed, and how they correlate."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from adaptive_samplers.config.model import Config
from adaptive_samplers.figures.style import (
    BLACK,
    BLUE,
    GRAY,
    GREEN,
    LIGHT_GRAY,
    LINE_HEIGHT,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    full_width,
    new_figure,
    style,
    text_width,
)
from adaptive_samplers.files import read_json
from adaptive_samplers.label_summary.correlations import as_matrix
from adaptive_samplers.measures import MEASURES

_COLUMNS = 3
_KIND_COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, GRAY)
_WIDEST_CELL, _KEY_WIDTH = 0.6, 4.2  # inches
_ROW = 0.24  # inches per kind in a panel
# Blue below zero, orange-red above it, white between: their lightness differs too, for color-blind readers.
_NUMBER = "#555555"
_SIGNED = LinearSegmentedColormap.from_list("signed", [BLUE, "#FFFFFF", VERMILION])


def _draw_kind(axes: Axes, row: int, described: Mapping[str, Any], edges: np.ndarray, color: str) -> None:
    """A histogram standing on a row, and under it the median, the middle half and the middle 90 %."""
    counts = np.asarray(described["histogram"], dtype=float)
    heights = 0.6 * counts / counts.max()
    axes.stairs(row - heights, edges, baseline=row, fill=True, color=color, alpha=0.55, linewidth=0)
    line = row + 0.17
    axes.plot([described["q05"], described["q95"]], [line, line], color=BLACK, linewidth=0.8, zorder=3)
    axes.plot(
        [described["q25"], described["q75"]], [line, line], color=BLACK, linewidth=3, zorder=3, solid_capstyle="butt"
    )
    axes.plot(described["median"], line, "o", color="white", markeredgecolor=BLACK, markersize=4.5, zorder=4)


def label_distributions(distributions: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> Figure:
    """A panel per label: for each kind of prompt a histogram, the median, the middle half and the middle 90 %.

    Each histogram has its own scale: its highest bin is as high as any other's. The number at the right is how many
    answers have the label, or in italics how many groups of answers across seeds.

    Parameters
    ----------
    distributions : mapping from a label's column to what `label_summary.distributions.distribution` returns, with its
        `unit` (answer or group).
    columns : the labels to draw, each with a value.
    """
    kinds = [kind for kind in distributions[columns[0]]["kinds"] if kind != "all"]
    rows = math.ceil(len(columns) / _COLUMNS)
    with style():
        figure = new_figure(height=0.5 + rows * (0.53 + _ROW * len(kinds)))
        grid = figure.subplots(rows, _COLUMNS, squeeze=False)
        for position, (axes, column) in enumerate(zip(grid.ravel(), columns, strict=False)):
            found = distributions[column]
            edges = np.asarray(found["edges"])
            for row, kind in enumerate(kinds):
                described = found["kinds"][kind]
                axes.axhline(row, color=LIGHT_GRAY, linewidth=0.6, zorder=0)
                if described["n"]:
                    _draw_kind(axes, row, described, edges, _KIND_COLORS[row % len(_KIND_COLORS)])
            axes.set_yticks(range(len(kinds)), labels=kinds if position % _COLUMNS == 0 else [""] * len(kinds))
            axes.set_ylim(len(kinds) - 0.6, -0.75)
            axes.set_title(MEASURES[column].title, loc="left")
            axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            axes.tick_params(axis="y", length=0)
            numbers = axes.secondary_yaxis("right")
            numbers.set_yticks(range(len(kinds)), labels=[f"{found['kinds'][kind]['n']:,}" for kind in kinds])
            numbers.tick_params(axis="y", length=0, labelcolor=_NUMBER)
            for label in numbers.get_yticklabels():
                label.set_fontstyle("italic" if found["unit"] == "group" else "normal")
            numbers.spines["right"].set_visible(False)
            axes.spines["left"].set_visible(False)
        for axes in grid.ravel()[len(columns) :]:
            axes.remove()
        figure.legend(
            handles=[
                Patch(color=GRAY, alpha=0.55, linewidth=0, label="histogram"),
                Line2D([], [], color=BLACK, linewidth=0, marker="o", markerfacecolor="white", label="median"),
                Line2D([], [], color=BLACK, linewidth=3, label="middle half"),
                Line2D([], [], color=BLACK, linewidth=0.8, label="middle 90 %"),
                Line2D([], [], linewidth=0, label="right: n (italics: n groups)"),
            ],
            loc="outside upper left",
            ncols=5,
            columnspacing=1.2,
            handlelength=1.5,
        )
    return figure


def label_correlations(pairs: pd.DataFrame, columns: Sequence[str]) -> Figure:
    """Spearman's correlation of every pair of labels: overall below the diagonal, mean within prompts above it.

    If either label of a pair is a group's, groups of answers across seeds are counted. A dash: not defined.

    Parameters
    ----------
    pairs : DataFrame
        What `label_summary.correlations` returns.
    columns : the labels, in their order.
    """
    columns = list(columns)
    matrix = as_matrix(pairs, columns)
    numbers = [str(position + 1) for position in range(len(columns))]
    names = [f"{MEASURES[column].name}  {number}" for column, number in zip(columns, numbers, strict=True)]
    with style():
        figure = new_figure(height=1.0)
        widest = max(text_width(figure, name) for name in names)
        width = min(full_width(), widest + 0.3 + max(_WIDEST_CELL * len(columns), _KEY_WIDTH))
        figure.set_size_inches(width, 1.4 + 1.5 * LINE_HEIGHT * len(columns))
        axes = figure.subplots()
        image = axes.imshow(np.ma.masked_invalid(matrix), cmap=_SIGNED, vmin=-1, vmax=1, aspect="auto")
        for row, column in np.ndindex(matrix.shape):
            if row != column:
                value = matrix[row, column]
                axes.text(column, row, _short(value), ha="center", va="center", color=_readable_on(value))
        lines = np.arange(len(columns) + 1) - 0.5
        axes.hlines(lines, lines[0], lines[-1], color="white", linewidth=1)
        axes.vlines(lines, lines[0], lines[-1], color="white", linewidth=1)
        axes.plot([lines[0], lines[-1]], [lines[0], lines[-1]], color=GRAY, linewidth=0.8)
        axes.set_xticks(range(len(columns)), labels=numbers)
        axes.set_yticks(range(len(columns)), labels=names)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(
            f"Below the diagonal: over all, n = {_counted(pairs)}.\n"
            f"Above it: mean within prompts, n = {_span(pairs['n_prompts'])} prompts."
        )
        bar = figure.colorbar(
            image, ax=axes, location="bottom", aspect=50, shrink=0.6, pad=0.02, ticks=[-1, -0.5, 0, 0.5, 1]
        )
        bar.set_ticks([-1, -0.5, 0, 0.5, 1])
        bar.set_label("Spearman's rank correlation")
        bar.outline.set_visible(False)
    return figure


def _counted(pairs: pd.DataFrame) -> str:
    """How many answers and groups have both labels of a pair."""
    counts = {unit: rows["n"] for unit, rows in pairs.groupby("unit")}
    return " or ".join(f"{_span(found)} {unit}s" for unit, found in counts.items())


def _span(counts: pd.Series) -> str:
    low, high = counts.min(), counts.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _readable_on(value: float) -> str:
    """Black or white, whichever has more contrast with the color of a correlation (WCAG 2.1)."""
    if math.isnan(value):
        return BLACK
    red, green, blue = (
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
        for channel in _SIGNED((value + 1) / 2)[:3]
    )
    return "white" if 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.179 else BLACK


def _short(value: float) -> str:
    """Two decimals without a leading zero."""
    if math.isnan(value):
        return "\u2013"
    return f"{value:z.2f}".replace("0.", ".", 1).replace("-", "\u2212")


def draw(files: Any, settings: Config) -> dict[str, Figure]:
    """The figures of the rule `plot_labels`."""
    summary = read_json(files.summary)
    pairs = pd.read_csv(files.correlations)
    return {
        "label_distributions": label_distributions(summary["distributions"], summary["columns"]),
        "label_correlations": label_correlations(pairs, summary["correlated"]["columns"]),
    }
