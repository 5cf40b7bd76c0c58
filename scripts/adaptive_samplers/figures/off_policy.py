"""What samplers are estimated to be worth from others' answers, and how near such estimates come."""

import itertools
import re
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from adaptive_samplers.config.model import Config
from adaptive_samplers.errors import UserError
from adaptive_samplers.figures.style import BLACK, BLUE, GRAY, GREEN, ORANGE, PURPLE, SKY, VERMILION, new_figure, style

_TEMPERATURE = re.compile(r"(?:temperature_([\d.]+))?\+?(?:min_p_([\d.]+))?")
_COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
_HATCH = "////"


def surface(estimates: pd.DataFrame) -> Figure:
    """The estimated gain over temperature and min-p, a panel for each split; hatched where no estimate is trusted, and
    empty where none was asked for. In parentheses, what a heuristic's own answers gained.

    Of several trusted horizons a cell shows the longest.

    Parameters
    ----------
    estimates : DataFrame
        The table of the rule `estimate_samplers`.

    Raises
    ------
    UserError
        If the table has no temperature.
    """
    rows = estimates.assign(cell=[_cell(name) for name in estimates["name"]]).dropna(subset="cell")
    if rows.empty:
        raise UserError(
            "off_policy.grid: no temperature, alone or with min_p, whose estimates could be drawn; add some"
        )
    splits = list(dict.fromkeys(rows["split"]))
    temperatures = sorted({cell[0] for cell in rows["cell"]})
    shares = sorted({cell[1] for cell in rows["cell"]})
    # All recorded steps, which have no number, are the longest horizon.
    rows = rows.assign(length=rows["horizon"].astype(float).fillna(np.inf)).sort_values("length", kind="stable")
    limit = rows["gain"].abs().max()
    with style():
        figure = new_figure(height=1.3 + 0.45 * max(4, len(shares)))
        grid = figure.subplots(1, len(splits), squeeze=False, sharey=True)
        for axes, split in zip(grid[0], splits, strict=True):
            values = np.full((len(shares), len(temperatures)), np.nan)
            estimated = np.zeros(values.shape, dtype=bool)
            own = np.full(values.shape, np.nan)
            for row in rows[rows["split"] == split].itertuples(index=False):
                cell = shares.index(row.cell[1]), temperatures.index(row.cell[0])
                estimated[cell] = True
                values[cell] = row.gain if row.trusted else values[cell]
                own[cell] = row.own_gain
            image = axes.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto", origin="lower")
            for (place, column), value in np.ndenumerate(values):
                if np.isnan(value) and estimated[place, column]:
                    axes.add_patch(
                        Rectangle(
                            (column - 0.5, place - 0.5), 1, 1, fill=False, hatch=_HATCH, edgecolor=GRAY, linewidth=0
                        )
                    )
                words = [] if np.isnan(value) else [_signed(value)]
                words += [] if np.isnan(own[place, column]) else [f"({_signed(own[place, column])})"]
                if words:
                    axes.text(
                        column,
                        place,
                        "\n".join(words),
                        ha="center",
                        va="center",
                        color="white" if abs(value) > 0.7 * limit else BLACK,
                        fontsize=5 if len(words) > 1 else 7,
                        # Hatching would strike the words through.
                        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1} if np.isnan(value) else None,
                    )
            axes.set_xticks(range(len(temperatures)), labels=[f"{value:g}" for value in temperatures])
            axes.set_yticks(range(len(shares)), labels=[f"{value:g}" if value else "none" for value in shares])
            axes.tick_params(length=0)
            axes.set_title(f"{split} prompts", loc="left")
            axes.set_xlabel("Temperature")
        grid[0, 0].set_ylabel("min-p")
        bar = figure.colorbar(image, ax=grid, fraction=0.04, pad=0.02)
        bar.set_label("Estimated gain over the mixture")
        bar.outline.set_visible(False)
        handles = [Patch(facecolor="white", edgecolor=GRAY, hatch=_HATCH, label="no trusted estimate")]
        if rows["own_gain"].notna().any():
            handles.append(Patch(alpha=0, label="(in parentheses: gain of its own answers)"))
        figure.legend(handles=handles, loc="outside upper left")
    return figure


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("0.", ".", 1)


def _cell(name: str) -> tuple[float, float] | None:
    """Temperature and min-p of a chain of these two, by its name; None for any other."""
    match = _TEMPERATURE.fullmatch(name)
    if match is None or not name or name.startswith("+") or name.endswith("+"):
        return None
    temperature, share = match.groups()
    return float(temperature or 1), float(share or 0)


def calibration(rows: pd.DataFrame) -> Figure:
    """Estimates of heuristics whose own answers were left out, against those answers; hollow where they are not
    trusted. Lines are intervals of their difference.

    Parameters
    ----------
    rows : DataFrame
        The calibration of the rule `estimate_samplers`.
    """
    rows = rows.dropna(subset=["gain", "own_gain"])
    rows = rows.assign(length=rows["horizon"].astype(float).fillna(np.inf))
    with style():
        figure = new_figure(height=3.6)
        axes = figure.subplots()
        for horizon, color in zip(dict.fromkeys(rows["length"]), itertools.cycle(_COLORS), strict=False):
            some = rows[rows["length"] == horizon]
            label = "all steps" if np.isinf(horizon) else f"first {horizon:g} steps"
            for row in some.itertuples(index=False):
                # It crosses the diagonal where the two agree.
                ends = [row.own_gain + row.error_low, row.own_gain + row.error_high]
                axes.plot([row.own_gain] * 2, ends, color=color, alpha=0.4, linewidth=0.8)
            for trusted, face in ((True, color), (False, "white")):
                part = some[some["trusted"] == trusted]
                axes.plot(part["own_gain"], part["gain"], "o", color=color, markerfacecolor=face, markersize=4.5)
            axes.plot([], [], "o", color=color, markersize=4.5, label=label)
        axes.plot([], [], "o", color=GRAY, markerfacecolor="white", markersize=4.5, label="not trusted")
        if len(rows):
            ends = rows["own_gain"].min(), rows["own_gain"].max()
            axes.plot(ends, ends, color=BLACK, linewidth=0.8, zorder=1)
        axes.set_xlabel("Gain of a heuristic's own answers, under other seeds")
        axes.set_ylabel("Estimated from the other heuristics' answers")
        axes.grid()
        figure.legend(loc="outside upper left", ncols=3)
    return figure


def draw(files: Any, settings: Config) -> dict[str, Figure]:
    """The figures of the rule `plot_off_policy`."""
    return {
        "off_policy_surface": surface(pd.read_csv(files.estimates)),
        "off_policy_calibration": calibration(pd.read_csv(files.calibration)),
    }
