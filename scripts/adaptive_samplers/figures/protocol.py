"""The figures of the protocol: families by tries, learned families against all others, and fronts of families."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from adaptive_samplers.compare.families import UNDECIDED
from adaptive_samplers.config.model import Config
from adaptive_samplers.figures.style import (
    BLACK,
    LIGHT_GRAY,
    LINE_HEIGHT,
    Mark,
    architecture_marks,
    balanced_columns,
    family_marks,
    new_figure,
    style,
)
from adaptive_samplers.figures.tradeoff import pareto_front
from adaptive_samplers.figures.tries import look_of, plot_tries
from adaptive_samplers.files import read_json
from adaptive_samplers.measures import OBJECTIVES

# Temperatures of a smaller ratio share a tick.
APART = 1.15


def draw(inputs: Any, settings: Config) -> dict[str, Figure]:
    """The figures by their names."""
    plan = read_json(inputs.plan)
    curves, pairs = (
        table[table["comparison"] == "families"] for table in (pd.read_csv(inputs.curves), pd.read_csv(inputs.pairs))
    )
    marks = marks_of(plan)
    return {
        "tries": plot_tries(curves, marks, plan["references"], plan["claims"]),
        "differences": plot_differences(pairs, marks),
        "temperatures": plot_temperatures(pd.read_csv(inputs.temperatures), marks, plan["claims"]),
        "family_fronts": plot_fronts(pd.read_csv(inputs.points), marks, plan["claims"]),
    }


def marks_of(plan: Mapping[str, Any]) -> dict[str, Mark]:
    """A mark for each family: that of its architecture, another for its second objective, if it is learned."""
    others = family_marks(name for name in plan["families"] if name not in plan["claims"])
    architectures = architecture_marks(name.partition(" ")[0] for name in plan["claims"])
    seen: dict[str, int] = {}
    marks = {}
    for name in plan["claims"]:
        mark = architectures[name.partition(" ")[0]]
        place = seen[mark.color] = seen.get(mark.color, -1) + 1
        marks[name] = mark if not place else Mark(mark.color, "*pXd"[(place - 1) % 4])
    return others | marks


def plot_temperatures(table: pd.DataFrame, marks: Mapping[str, Mark], claims: Sequence[str]) -> Figure:
    """The value of each family at each temperature that several of its configurations have, a panel for each objective.

    Parameters
    ----------
    table : DataFrame as `compare.temperatures.values_by_temperature` makes it
    marks : by family
    claims : families that stand out
    """
    objectives = list(dict.fromkeys(table["objective"]))
    # A family at a single temperature has no line.
    at_several = table.groupby("family")["temperature"].nunique() > 1
    with style():
        figure = new_figure(height=3.2)
        panels = figure.subplots(1, len(objectives), squeeze=False)[0]
        for axes, objective in zip(panels, objectives, strict=True):
            for family in at_several.index[at_several]:
                rows = table[(table["objective"] == objective) & (table["family"] == family)]
                look = look_of(marks[family], is_claimed=family in claims)
                axes.fill_between(
                    rows["temperature"], rows["low"], rows["high"], color=look["color"], alpha=0.12, linewidth=0
                )
                axes.plot(rows["temperature"], rows["value"], **look)
            axes.set_xscale("log")
            heats = _apart(sorted(set(table["temperature"])))
            axes.set_xticks(heats, [f"{heat:g}" for heat in heats])
            axes.minorticks_off()
            axes.set_xlabel("Temperature")
            axes.set_title(objective.replace("_", " "), loc="left")
            axes.grid(axis="y")
        panels[0].set_ylabel("Value on test prompts")
        for family in at_several.index[at_several]:
            panels[0].plot([], [], label=family, **look_of(marks[family], is_claimed=family in claims))
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def plot_fronts(points: pd.DataFrame, marks: Mapping[str, Mark], claims: Sequence[str]) -> Figure:
    """Each family's configurations by two objectives, with their front as steps, a panel for each pair of objectives.

    Parameters
    ----------
    points : DataFrame as `compare.fronts.compare_family_fronts` makes it, perhaps without rows
    marks : by family
    claims : families that stand out
    """
    pairs = list(dict.fromkeys(zip(points["objective"], points["other"], strict=True)))
    count = max(1, len(pairs))
    columns = balanced_columns(count, 2)
    rows = -(-count // columns)
    families = [family for family in marks if family in set(points["family"])]
    looks = {family: look_of(marks[family], is_claimed=family in claims) for family in families}
    names = 4 if max(map(len, families), default=0) < 20 else 2
    with style():
        # The legend may be long.
        figure = new_figure(height=0.6 + 1.15 * LINE_HEIGHT * -(-len(families) // names) + 2.6 * rows * bool(pairs))
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, (objective, other) in zip(panels, pairs, strict=False):
            of_pair = points[(points["objective"] == objective) & (points["other"] == other)]
            for family, look in looks.items():
                drawn = of_pair[of_pair["family"] == family]
                x, y = drawn["other_value"].to_numpy(), drawn["value"].to_numpy()
                front = pareto_front(x, y)
                above = 3 if family in claims else 2
                line = look | {"marker": "", "linewidth": look["linewidth"] / 2, "drawstyle": "steps-pre"}
                axes.plot(x[front], y[front], **line, zorder=above)
                axes.plot(x, y, **look | {"linestyle": "", "markeredgewidth": 0}, zorder=above)
            axes.set_xlabel(_axis_of(other))
            axes.set_ylabel(_axis_of(objective))
            axes.grid()
        for axes in panels[len(pairs) :]:
            axes.set_axis_off()
        if not pairs:
            panels[0].text(0, 0.5, "No two objectives, one of them diversity, in which families could be compared.")
        for family, look in looks.items():
            panels[0].plot([], [], label=family, **look)
        if families:
            figure.legend(loc="outside upper left", ncols=names)
    return figure


def _axis_of(objective: str) -> str:
    """What stands on an axis of values of which higher ones are better."""
    measure = OBJECTIVES.get(objective)
    if measure is None:
        return objective.replace("_", " ")
    return measure.axis if measure.higher_is_better else f"{measure.title}, negated"


def _apart(heats: Sequence[float]) -> list[float]:
    """Of ascending temperatures, those whose labels do not overlap on a logarithmic axis."""
    kept: list[float] = []
    for heat in heats:
        if not kept or heat >= kept[-1] * APART:
            kept.append(heat)
    return kept


def plot_differences(pairs: pd.DataFrame, marks: Mapping[str, Mark]) -> Figure:
    """Each claimed family less each other one, a panel for each objective, a row for each pair.

    Parameters
    ----------
    pairs : DataFrame as `compare.Comparison.pairs`
    marks : by family
    """
    objectives = list(dict.fromkeys(pairs["objective"]))
    rows = list(dict.fromkeys(zip(pairs["family"], pairs["other"], strict=True)))
    with style():
        # Room between one learned family and the next.
        families = list(dict.fromkeys(family for family, _ in rows))
        places = [place + 1.5 * families.index(family) for place, (family, _) in enumerate(rows)]
        figure = new_figure(height=0.9 + LINE_HEIGHT * (max(places) + 2))
        panels = figure.subplots(1, len(objectives), squeeze=False, sharey=True)[0]
        for axes, objective in zip(panels, objectives, strict=True):
            found = pairs[pairs["objective"] == objective].set_index(["family", "other"])
            for place, (family, other) in zip(places, rows, strict=True):
                pair = found.loc[(family, other)]
                color = marks[family].color
                undecided = pair["verdict"] == UNDECIDED
                if undecided:
                    axes.barh(place, 2 * pair["detectable"], left=-pair["detectable"], color=LIGHT_GRAY, height=0.5)
                axes.hlines(place, pair["low"], pair["high"], color=color, linewidth=1)
                face = "white" if undecided else color
                axes.plot(
                    pair["difference"], place, marks[family].marker, color=color, markerfacecolor=face, markersize=4
                )
            axes.axvline(0, color=BLACK, linewidth=0.8, zorder=1)
            axes.set_title(objective.replace("_", " "), loc="left")
            axes.grid(axis="x")
        panels[0].set_yticks(places, [other for _, other in rows])
        panels[0].set_ylim(max(places) + 1, -1.5)
        for family in families:
            place = min(at for at, (one, _) in zip(places, rows, strict=True) if one == family)
            across = panels[0].get_yaxis_transform()
            panels[0].text(0, place - 1, f"{family} less", va="center", transform=across, in_layout=False)
        figure.supxlabel("Difference on test prompts")
    return figure
