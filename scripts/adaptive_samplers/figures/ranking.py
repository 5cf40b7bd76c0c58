"""Heuristics and learned samplers in order of one objective, with intervals."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from adaptive_samplers.config.model import Config
from adaptive_samplers.errors import UserError
from adaptive_samplers.evaluation import BASE, LEARNED
from adaptive_samplers.figures.style import (
    GRAY,
    LEARNED_COLOR,
    LEARNED_MARK,
    LINE_HEIGHT,
    family_marks,
    new_figure,
    style,
)
from adaptive_samplers.measures import OBJECTIVES
from adaptive_samplers.tables import read_table


def rows_of(comparison: pd.DataFrame, objective: str) -> pd.DataFrame:
    """The rows of one objective that have a mean.

    Raises
    ------
    UserError
        If there are none.
    """
    rows = comparison[(comparison["objective"] == objective) & comparison["mean"].notna()]
    if rows.empty:
        raise UserError(f"comparison table: no value of '{objective}'; add it to evaluation.objectives")
    return rows


def ranking(comparison: pd.DataFrame, objective: str = "quality", base: str = BASE) -> Figure:
    """A dot with its interval for every sampler, the best on top; learned samplers are stars with colored names.

    Parameters
    ----------
    comparison : DataFrame
        A `comparison` table.
    objective : str
        What to rank by.
    base : str
        Sampler whose mean is drawn as a vertical line, if it is there.

    Raises
    ------
    UserError
        If the table has no value of the objective.
    """
    order = OBJECTIVES[objective]
    rows = rows_of(comparison, objective).sort_values("mean", ascending=order.higher_is_better, kind="stable")
    marks = family_marks(comparison["family"])
    with style():
        figure = new_figure(height=0.75 + 1.1 * LINE_HEIGHT * len(rows))
        axes = figure.subplots()
        for position, row in enumerate(rows.itertuples(index=False)):
            learned = row.kind == LEARNED
            mark = LEARNED_MARK if learned else marks[row.family]
            axes.plot([row.low, row.high], [position] * 2, color=mark.color if learned else GRAY, zorder=2)
            axes.plot(
                row.mean,
                position,
                mark.marker,
                color=mark.color,
                markersize=10 if learned else 5.5,
                markeredgecolor="black",
                markeredgewidth=0.5,
                zorder=3,
            )
        axes.set_yticks(range(len(rows)), labels=rows["name"])
        for label, kind in zip(axes.get_yticklabels(), rows["kind"], strict=True):
            if kind == LEARNED:
                label.set_color(LEARNED_COLOR)
        reference = rows.loc[rows["name"] == base, "mean"]
        if len(reference):
            axes.axvline(reference.iloc[0], color=GRAY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.set_xlabel(order.axis)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y")
    return figure


def draw(files: Any, settings: Config) -> dict[str, Figure]:
    """The figure of the rule `plot_ranking`."""
    return {"ranking": ranking(read_table("comparison", files.comparison))}
