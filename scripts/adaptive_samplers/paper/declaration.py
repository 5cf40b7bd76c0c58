"""What the paper is made of, from which rules/paper.smk makes its rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

TEXT = Path(__file__).parents[3] / "report" / "paper"


@dataclass(frozen=True)
class Table:
    """A table that the text may take numbers from.

    Attributes
    ----------
    name : what macros call it.
    files : one CSV, Parquet or JSON file, or several folders of one kind, as a rule's `input` takes them.
    inside : of folders, the JSON file in each that makes a row.
    columns : of a Parquet table, those to read.
    made : whether this config makes it.
    """

    name: str
    files: Any
    inside: str = ""
    columns: tuple[str, ...] = ()
    made: bool = True


@dataclass(frozen=True)
class Drawing:
    """A figure of rules/figures.smk, drawn for the paper as wide as one column or as the text of the page."""

    name: str
    width: Literal["column", "page"]
    made: bool = True


@dataclass(frozen=True)
class Section:
    """A file of the text, report/paper/sections/{name}.typ.

    Attributes
    ----------
    name : its file's.
    title : what the paper calls it where it says that it is not part of it.
    needs : tables and figures without which it is left out.
    reports : whether it tells results, so that no number may be typed in it, neither in a formula nor as a word.
    """

    name: str
    title: str
    needs: tuple[str, ...] = ()
    reports: bool = True


@dataclass(frozen=True, kw_only=True)
class Paper:
    """All of it, in order.

    Raises
    ------
    ValueError
        If a name is used twice, a section needs what is not declared, or its file is missing.
    """

    tables: Sequence[Table]
    drawings: Sequence[Drawing]
    sections: Sequence[Section]

    def __post_init__(self) -> None:
        names = [part.name for part in (*self.tables, *self.drawings)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the paper has two tables or figures of the name '{twice[0]}'")
        for section in self.sections:
            unknown = sorted(set(section.needs) - set(names))
            if unknown:
                raise ValueError(f"the paper's section '{section.name}' needs '{unknown[0]}', which is not declared")
            if not (TEXT / "sections" / f"{section.name}.typ").is_file():
                raise ValueError(f"the paper's section '{section.name}' lacks report/paper/sections/{section.name}.typ")

    @property
    def made_tables(self) -> list[Table]:
        """The tables that this config makes."""
        return [table for table in self.tables if table.made]

    @property
    def made_drawings(self) -> list[Drawing]:
        """The figures that this config makes."""
        return [drawing for drawing in self.drawings if drawing.made]

    def split_sections(self) -> tuple[list[Section], list[Section]]:
        """The sections to set, and those to leave out because this config does not make what they need."""
        made = {part.name for part in (*self.made_tables, *self.made_drawings)}
        kept = [section for section in self.sections if made >= set(section.needs)]
        return kept, [section for section in self.sections if section not in kept]


def outline(paper: Paper) -> dict[str, Any]:
    """The declaration as plain data, for the params of the rule that sets the paper."""
    kept, left_out = paper.split_sections()
    return {
        "tables": {table.name: {"inside": table.inside, "columns": list(table.columns)} for table in paper.made_tables},
        "drawings": {drawing.name: drawing.width for drawing in paper.made_drawings},
        "sections": {section.name: section.reports for section in kept},
        "left_out": [section.title for section in left_out],
    }


def widths(paper: Paper, figures: Mapping[str, Any]) -> dict[str, str]:
    """The widths of those figures of a plot that the paper shows."""
    return {drawing.name: drawing.width for drawing in paper.made_drawings if drawing.name in figures}
