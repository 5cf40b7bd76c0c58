"""The declaration of a figure, from which rules/figures.smk makes the rule, its outputs and its targets."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

FORMATS = ("pdf", "png")


@dataclass(frozen=True)
class Shown:
    """Where the report shows a figure: its name, its group, and report/{caption}.rst."""

    label: str
    category: str
    caption: str

    def __post_init__(self) -> None:
        refuse_missing(self, f"the figure '{self.label}'")


@dataclass(frozen=True, kw_only=True)
class Plot:
    """The figures of one rule.

    Attributes
    ----------
    name : the rule's, after `plot_`.
    inputs : files by their names, as a rule's `input` takes them.
    figures : by the names of their files, where the report shows them; None if it does not.
    message : the rule's.
    stage : whose version and config keys the figures depend on.
    drawn_by : the module in `adaptive_samplers.figures` whose `draw` makes them; by default the one of the same name.
    group : the target that requests them: `run`, or a separate target.

    Raises
    ------
    ValueError
        If something is missing.
    """

    name: str
    inputs: Mapping[str, Any]
    figures: Mapping[str, Shown | None]
    message: str
    stage: str = "figures"
    drawn_by: str = ""
    group: str = "run"

    def __post_init__(self) -> None:
        object.__setattr__(self, "drawn_by", self.drawn_by or self.name)
        refuse_missing(self, f"the plot '{self.name}'")
        if not Path(__file__).with_name(f"{self.drawn_by}.py").is_file():
            raise ValueError(f"the plot '{self.name}' lacks its module, adaptive_samplers/figures/{self.drawn_by}.py")

    @property
    def files(self) -> list[str]:
        """The files of its figures in a run's folder."""
        return [f"figures/{name}.{form}" for name in self.figures for form in FORMATS]


def refuse_missing(declared: Any, what: str) -> None:
    """Raise ValueError if a part of a declaration is empty."""
    missing = [part.name for part in fields(declared) if not getattr(declared, part.name)]
    if missing:
        raise ValueError(f"{what} lacks its {' and its '.join(missing)}")
