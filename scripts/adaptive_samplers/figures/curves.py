"""The course of training."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from adaptive_samplers.config.model import Config
from adaptive_samplers.figures.style import BLACK, GRAY, Mark, architecture_marks, balanced_columns, new_figure, style
from adaptive_samplers.files import read_json
from adaptive_samplers.heuristics.pipelines import lesson_name

_COLUMNS = 3
# What is drawn under the loss: the first of these that an objective measures.
_QUANTITIES = {
    "gain": "Estimated gain",
    "accuracy": "Pairs in order (share)",
    "best": "Best answers (nats a step)",
    "kl": "KL (nats)",
}
_IDENTITY = {"color": BLACK, "linestyle": (0, (4, 3)), "linewidth": 1.0}
_TRAINING = {"linewidth": 0.8, "alpha": 0.45}


def _draw_curve(axes: Axes, curve: pd.DataFrame, quantity: str, mark: Mark) -> None:
    training = curve[curve["split"] == "train"]
    validation = curve[curve["split"] == "validation"]
    axes.plot(training["step"], training[quantity], color=mark.color, zorder=2, **_TRAINING)
    axes.plot(
        validation["step"],
        validation[quantity],
        color=mark.color,
        marker=mark.marker,
        markersize=3.5,
        zorder=3,
    )


def _legend_handles(marks: dict[str, Mark]) -> list[Line2D]:
    samplers = [
        Line2D([], [], color=mark.color, marker=mark.marker, markersize=3.5, label=architecture)
        for architecture, mark in marks.items()
    ]
    return [
        *samplers,
        Line2D([], [], color=GRAY, marker="o", markersize=3.5, label="validation (marks)"),
        Line2D([], [], color=GRAY, label="training (thin)", **_TRAINING),
        Line2D([], [], label="raw logits, test split", **_IDENTITY),
    ]


def _second_quantity(curve: pd.DataFrame) -> dict[str, str]:
    """The column to draw under the loss, and its label; empty where an objective measures nothing else."""
    known = [name for name in _QUANTITIES if name in curve]
    return {known[0]: _QUANTITIES[known[0]]} if known else {}


def curves(
    curves: Mapping[tuple[str, str], pd.DataFrame], metrics: Mapping[tuple[str, str], Mapping[str, Any]]
) -> Figure:
    """Loss and KL by step, or what else an objective measures; one column of panels per weights and objective, and one
    color per architecture.

    Parameters
    ----------
    curves : mapping from (architecture, weights) to DataFrame
        Columns step, split (train or validation), loss, and what the objective measures, such as kl (nats).
    metrics : mapping from (architecture, weights) to mapping
        Of `identity_loss` and `identity_kl` those that there are: what the raw logits reach on the test split, drawn
        dashed.
    """
    marks = architecture_marks(architecture for architecture, _ in curves)
    weights = list(dict.fromkeys(weights for _, weights in curves))
    columns = balanced_columns(len(weights), _COLUMNS)
    blocks = math.ceil(len(weights) / columns)
    with style():
        figure = new_figure(height=0.8 + 3.4 * blocks)
        grid = figure.subplots(2 * blocks, columns, squeeze=False)
        for position, name in enumerate(weights):
            block, column = divmod(position, columns)
            shown = {architecture: curve for (architecture, of), curve in curves.items() if of == name}
            measured = _second_quantity(next(iter(shown.values())))
            for line, (quantity, label) in enumerate({"loss": "Loss", **measured}.items()):
                axes = grid[2 * block + line, column]
                for architecture, curve in shown.items():
                    _draw_curve(axes, curve, quantity, marks[architecture])
                    reference = metrics[architecture, name].get(f"identity_{quantity}")
                    if reference is not None:
                        axes.axhline(reference, zorder=1, **_IDENTITY)
                if all((curve[quantity] >= 0).all() for curve in shown.values()):
                    axes.set_ylim(bottom=0)
                axes.grid()
                axes.set_ylabel(label)
                if line == 0:
                    axes.set_title(name, loc="left")
                if line == len(measured):
                    axes.set_xlabel("Step")
            if not measured:
                grid[2 * block + 1, column].remove()
        for position in range(len(weights), blocks * columns):
            block, column = divmod(position, columns)
            grid[2 * block, column].remove()
            grid[2 * block + 1, column].remove()
        figure.legend(handles=_legend_handles(marks), loc="outside upper left", ncols=2)
    return figure


def draw(files: Any, settings: Config) -> dict[str, Figure]:
    """The figure of the rule `plot_training_curves`, from the folders of samplers."""
    folders = [Path(folder) for folder in files.samplers]
    names = [(folder.parent.name, lesson_name(folder.name)) for folder in folders]
    figure = curves(
        {name: pd.read_csv(folder / "curves.csv") for name, folder in zip(names, folders, strict=True)},
        {name: read_json(folder / "metrics.json") for name, folder in zip(names, folders, strict=True)},
    )
    return {"training_curves": figure}
