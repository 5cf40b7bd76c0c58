"""Which heuristics' answers were kept for training."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from adaptive_samplers.config.model import Config
from adaptive_samplers.figures.style import (
    GRAY,
    LINE_HEIGHT,
    balanced_columns,
    family_marks,
    full_width,
    new_figure,
    style,
    text_width,
)
from adaptive_samplers.tables import read_table

_COLUMNS = 3
_PANEL_WIDTH = 1.25  # inches, at least


def _temperature(name: str) -> float:
    """A pipeline's temperature: the one in its name, or 1 if there is none."""
    found = re.search(r"(?:^|\+)temperature_([0-9.]+(?:e-?[0-9]+)?)", name)
    return float(found[1]) if found else 1.0


def by_family_and_temperature(heuristics: pd.DataFrame) -> pd.DataFrame:
    """Heuristics by family, in the order in which families first occur, and by temperature within it."""
    families = list(dict.fromkeys(heuristics["family"]))
    keys = pd.DataFrame(
        {"family": heuristics["family"].map(families.index), "temperature": heuristics["name"].map(_temperature)}
    )
    order = keys.sort_values(["family", "temperature"], kind="stable").index
    return heuristics.loc[order].reset_index(drop=True)


def kept(training_sets: Mapping[str, pd.DataFrame], heuristics: pd.DataFrame) -> Figure:
    """Share of the kept answers that each heuristic made: a panel per weights, heuristics by family and temperature.

    The dashed line is the share that every heuristic would have if all were kept equally often.

    Parameters
    ----------
    training_sets : mapping from the name of weights to DataFrame
        A row per kept answer, with its heuristic's `name`.
    heuristics : DataFrame with the columns name, family
        All that competed, so that those never kept are shown as such.
    """
    heuristics = by_family_and_temperature(heuristics.reset_index(drop=True))
    marks = family_marks(heuristics["family"])
    colors = [marks[family].color for family in heuristics["family"]]
    shares = {
        weights: 100 * answers["name"].value_counts(normalize=True).reindex(heuristics["name"], fill_value=0.0)
        for weights, answers in training_sets.items()
    }
    widest = max(share.max() for share in shares.values())
    positions = range(len(heuristics))
    with style():
        figure = new_figure(height=1.0)
        room = full_width() - max(text_width(figure, name) for name in heuristics["name"])
        panel = max(_PANEL_WIDTH, *(text_width(figure, weights) + 0.1 for weights in shares))
        columns = balanced_columns(len(shares), min(_COLUMNS, int(room // panel)))
        blocks = math.ceil(len(shares) / columns)
        figure.set_size_inches(full_width(), 0.4 + blocks * (0.6 + 1.1 * LINE_HEIGHT * len(heuristics)))
        grid = figure.subplots(blocks, columns, squeeze=False, sharex=True, sharey=True)
        for axes, (weights, share) in zip(grid.ravel(), shares.items(), strict=False):
            axes.barh(positions, share, height=0.72, color=colors, edgecolor="black", linewidth=0.4)
            for position, percent in zip(positions, share, strict=True):
                axes.annotate(
                    f"{percent:.0f}",
                    (percent, position),
                    xytext=(3, 0),
                    textcoords="offset points",
                    va="center",
                    path_effects=[withStroke(linewidth=2, foreground="white")],
                )
            axes.axvline(100 / len(heuristics), color=GRAY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
            axes.set_yticks(positions, labels=heuristics["name"])
            axes.set_title(f"{weights}\nn = {len(training_sets[weights])}", loc="left")
            axes.tick_params(axis="y", length=0)
            axes.tick_params(axis="x", labelbottom=True)
        grid[0, 0].set_xlim(0, 1.2 * widest)  # room for the number next to the longest bar
        grid[0, 0].set_ylim(len(heuristics) - 0.4, -0.6)
        for axes in grid.ravel()[len(shares) :]:
            axes.remove()
        figure.supxlabel("Share of the kept answers (%)")
    return figure


def draw(files: Any, settings: Config) -> dict[str, Figure]:
    """The figure of the rule `plot_kept_heuristics`."""
    heuristics = read_table("heuristics", files.heuristics)
    names = heuristics[["heuristic_id", "name"]]
    training_sets = {
        path.stem.replace("_top", " top"): read_table("training_sets", path).merge(names, on="heuristic_id")
        for path in map(Path, files.training_sets)
    }
    return {"kept_heuristics": kept(training_sets, heuristics)}
