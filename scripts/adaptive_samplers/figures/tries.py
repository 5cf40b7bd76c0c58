"""What families of samplers are worth after so many tries."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from adaptive_samplers.evaluation import LEARNED
from adaptive_samplers.figures.style import LEARNED_MARK, Mark, balanced_columns, family_marks, new_figure, style

_COLUMNS = 3


def plot_tries(
    curves: pd.DataFrame,
    marks: Mapping[str, Mark] | None = None,
    references: Sequence[str] = (),
    claims: Sequence[str] = (LEARNED,),
) -> Figure:
    """The value of a family's best configuration by the number that were tried, a panel for each objective.

    Parameters
    ----------
    curves : DataFrame with the columns objective, family, tries, value, low, high
        As `compare.Comparison.curves`.
    marks : by family; by default those of families of heuristics.
    references : families with nothing to choose, drawn as dotted lines.
    claims : families that stand out, drawn solid among dashed lines.
    """
    objectives = list(dict.fromkeys(curves["objective"]))
    columns = balanced_columns(len(objectives), _COLUMNS)
    rows = -(-len(objectives) // columns)
    if marks is None:
        marks = family_marks(curves["family"])
        marks |= {LEARNED: LEARNED_MARK} if LEARNED in marks else {}
    looks = {family: look_of(mark, family in references, family in claims) for family, mark in marks.items()}
    with style():
        figure = new_figure(height=0.6 + 2.6 * rows)
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, objective in zip(panels, objectives, strict=False):
            for family, mark in marks.items():
                drawn = curves[(curves["objective"] == objective) & (curves["family"] == family)].sort_values("tries")
                if family in references:
                    axes.axhline(drawn["value"].iloc[0], **looks[family])
                    continue
                band = drawn["tries"], drawn["low"], drawn["high"]
                axes.fill_between(*band, color=mark.color, alpha=0.12, linewidth=0)
                axes.plot(drawn["tries"], drawn["value"], **looks[family])
            axes.set_xscale("log")
            ticks = sorted(set(curves.loc[curves["objective"] == objective, "tries"]))
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.minorticks_off()
            axes.set_xlabel("Configurations tried")
            axes.set_title(objective.replace("_", " "), loc="left")
            axes.grid(axis="y")
        for axes in panels[len(objectives) :]:
            axes.set_axis_off()
        panels[0].set_ylabel("Value on prompts without a say")
        for family in marks:
            panels[0].plot([], [], label=family, **looks[family])
        figure.legend(loc="outside upper left", ncols=4 if max(map(len, marks)) < 20 else 2)
    return figure


def look_of(mark: Mark, is_reference: bool = False, is_claimed: bool = False) -> dict[str, Any]:
    """How a family's line is drawn: dotted if it has nothing to choose, solid if something is claimed of it."""
    if is_reference:
        return {"color": mark.color, "linestyle": ":"}
    line = {"linewidth": 1.8} if is_claimed else {"linewidth": 0.9, "linestyle": "--"}
    return {"color": mark.color, "marker": mark.marker, "markersize": 5 if is_claimed else 4, **line}
