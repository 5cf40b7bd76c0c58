"""The figures of a rule, as its module in this package draws them."""

from importlib import import_module
from typing import Any

from matplotlib.figure import Figure

from adaptive_samplers.config.model import Config
from adaptive_samplers.figures.style import style
from adaptive_samplers.protocol import said_of_plans


def draw_figures(drawn_by: str, inputs: Any, settings: Config) -> dict[str, Figure]:
    """Figures by their names.

    Parameters
    ----------
    drawn_by : a module of this package with a function `draw`
    inputs : the rule's, by their names. If a plan is among them that others preceded, the figures say so.
    settings : what the figures may depend on
    """
    figures = import_module(f"adaptive_samplers.figures.{drawn_by}").draw(inputs, settings)
    note = said_of_plans(inputs.get("plan"))
    for figure in figures.values() if note else ():
        with style():
            figure.supxlabel("\n".join(filter(None, [figure.get_supxlabel(), note])))
    return figures
