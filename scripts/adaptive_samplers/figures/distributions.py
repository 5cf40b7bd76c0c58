"""What a learned sampler does to a distribution: raw, target and learned probabilities of the likeliest tokens."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from adaptive_samplers.config.model import Config
from adaptive_samplers.figures.style import (
    BLACK,
    LIGHT_GRAY,
    LINE_HEIGHT,
    Mark,
    architecture_marks,
    balanced_columns,
    full_width,
    new_figure,
    printable,
    style,
    text_width,
)
from adaptive_samplers.files import read_json

_COLUMNS = 2
_LEGEND_COLUMNS = 3
_NARROWEST_CHARACTER = 0.03  # inches
REST = "all other tokens"


def _fitted(figure: Figure, text: str, width: float) -> str:
    """As much of the end of `text` as fits in `width` inches."""
    shortened = text[-int(width / _NARROWEST_CHARACTER) :]
    if shortened == text and text_width(figure, text) <= width:
        return text
    while text_width(figure, "\u2026" + shortened) > width:
        shortened = shortened[1:]
    return "\u2026" + shortened


def _with_rest(probabilities: Sequence[float], tail_mass: float) -> np.ndarray:
    return np.append(np.asarray(probabilities, dtype=float), tail_mass)


def _draw_panel(axes: Axes, panel: dict[str, Any], marks: dict[str, Mark]) -> None:
    tokens = panel["tokens"]
    tail = panel["tail_mass"]
    # The rest is drawn apart from the tokens: it is a sum, not a token.
    rows = np.append(np.arange(len(tokens)), len(tokens) + 0.4)
    axes.barh(rows, _with_rest(panel["raw"], tail["raw"]), height=0.86, color=LIGHT_GRAY, zorder=1)
    target = _with_rest(panel["target"], tail["target"])
    axes.vlines(target, rows - 0.43, rows + 0.43, color=BLACK, linewidth=1.8, zorder=2)
    shifts = np.linspace(-0.26, 0.26, len(marks)) if len(marks) > 1 else [0.0]
    for shift, (architecture, mark) in zip(shifts, marks.items(), strict=True):
        if architecture not in panel["learned"]:
            continue
        axes.plot(
            _with_rest(panel["learned"][architecture], tail[architecture]),
            rows + shift,
            mark.marker,
            color=mark.color,
            markersize=4,
            markeredgewidth=0,
            clip_on=False,
            zorder=3,
        )
    axes.set_yticks(rows, labels=[*map(printable, tokens), REST])
    for label, token in zip(axes.get_yticklabels(), tokens, strict=False):
        if token == panel["chosen_token"]:
            label.set_fontweight("bold")
    axes.get_yticklabels()[-1].set_fontstyle("italic")
    axes.set_ylim(rows[-1] + 0.6, -0.6)
    axes.set_xlim(left=0)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def distributions(panels: Sequence[dict[str, Any]]) -> Figure:
    """Small multiples, one per generated token: bars raw, black ticks the target, marks the learned samplers.

    Parameters
    ----------
    panels : sequence of dict
        With the keys `context` (text before the token), `chosen_token`, `heuristic` (whose answer it was), `tokens`
        (the likeliest ones), their probabilities `raw`, `target` and `learned` (a dict by architecture), and
        `tail_mass`, the probability of all other tokens: a dict with raw, target and every architecture.
    """
    marks = architecture_marks(architecture for panel in panels for architecture in panel["learned"])
    columns = balanced_columns(len(panels), _COLUMNS)
    rows = math.ceil(len(panels) / columns)
    lines = max(len(panel["tokens"]) for panel in panels)
    legend_height = LINE_HEIGHT * 1.3 * math.ceil((2 + len(marks)) / _LEGEND_COLUMNS) + 0.1
    panel_height = 1.12 * LINE_HEIGHT * (lines + 1.5) + 0.85
    width = full_width() / columns - 0.2
    with style():
        figure = new_figure(height=legend_height + rows * panel_height)
        top, body = figure.subfigures(2, height_ratios=[legend_height, rows * panel_height])
        cells = body.subfigures(rows, columns, squeeze=False).ravel()
        for cell, panel in zip(cells, panels, strict=False):
            axes = cell.subplots()
            _draw_panel(axes, panel, marks)
            context = printable(" ".join(panel["context"].split()))
            step = _fitted(figure, f"{context} \u2192 {printable(panel['chosen_token'])}", width)
            cell.suptitle(f"{step}\n{_fitted(figure, panel['heuristic'], width)}", x=0.03, ha="left")
            axes.set_xlabel("Probability")
        handles = {"raw": Patch(color=LIGHT_GRAY), "target": Line2D([], [], color=BLACK, linewidth=1.8)}
        for architecture, mark in marks.items():
            handles[architecture] = Line2D([], [], color=mark.color, marker=mark.marker, markersize=5, linestyle="")
        top.legend(handles.values(), handles.keys(), loc="center left", ncols=_LEGEND_COLUMNS)
    return figure


def draw(files: Any, settings: Config) -> dict[str, Figure]:
    """The figure of the rule `plot_distributions`."""
    return {"distributions": distributions(read_json(files.probes)["probes"])}
