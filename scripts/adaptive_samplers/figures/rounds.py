"""How much better each round's sampler was than the one it began with, on fresh answers."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from adaptive_samplers.config.model import Config
from adaptive_samplers.figures.style import BLACK, GRAY, new_figure, style
from adaptive_samplers.samplers.registry import ARCHITECTURES


def rounds(table: pd.DataFrame) -> Figure:
    """Differences over generations with their intervals, a panel for each lesson; hollow where not accepted.

    Parameters
    ----------
    table : DataFrame
        As `table_of_rounds` makes it.
    """
    lessons = list(dict.fromkeys(table["lesson"]))
    with style():
        figure = new_figure(height=2.9)
        panels = figure.subplots(1, len(lessons), squeeze=False, sharey=True)[0]
        drawn = list(dict.fromkeys(table["architecture"]))
        for axes, lesson in zip(panels, lessons, strict=True):
            for place, name in enumerate(drawn):
                architecture = ARCHITECTURES[name]
                rows = table[(table["lesson"] == lesson) & (table["architecture"] == name)].sort_values("generation")
                # Side by side where they would hide each other.
                at = rows["generation"] + 0.12 * (place - (len(drawn) - 1) / 2)
                axes.vlines(at, rows["low"], rows["high"], color=architecture.color, linewidth=1)
                axes.plot(at, rows["difference"], color=architecture.color, linewidth=0.6, alpha=0.5)
                for accepted, face in ((True, architecture.color), (False, "white")):
                    some = (rows["accepted"] == accepted).to_numpy()
                    style_of = {"color": architecture.color, "markerfacecolor": face, "markersize": 5}
                    axes.plot(at[some], rows["difference"][some], architecture.marker, **style_of)
            axes.axhline(0, color=BLACK, linewidth=0.8, zorder=1)
            axes.set_xticks(sorted(table["generation"].unique()))
            axes.set_xlabel("Generation")
            axes.set_title(lesson, loc="left")
            axes.grid(axis="y")
        panels[0].set_ylabel("Gain over what it began with")
        for name in drawn:
            panels[0].plot([], [], ARCHITECTURES[name].marker, color=ARCHITECTURES[name].color, label=name)
        panels[0].plot([], [], "o", color=GRAY, markerfacecolor="white", label="not accepted")
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def draw(files: Any, settings: Config) -> dict[str, Figure]:
    """The figure of the rule `plot_rounds`."""
    return {"rounds": rounds(pd.read_csv(files.rounds))}
