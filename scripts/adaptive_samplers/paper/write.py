"""A run's paper, from the text, the run's tables and the figures that were drawn for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptive_samplers.errors import UserError
from adaptive_samplers.figures.looks import PAPER
from adaptive_samplers.files import atomic_output, read_json, write_json
from adaptive_samplers.hashing import file_sha256
from adaptive_samplers.measures import OBJECTIVES
from adaptive_samplers.paper.declaration import TEXT
from adaptive_samplers.paper.manifest import hashes, numbers_of
from adaptive_samplers.paper.typeset import refuse_typed_numbers, typeset
from adaptive_samplers.paper.values import read_rows
from adaptive_samplers.provenance import versions
from adaptive_samplers.stage import say

LEAST_PAGES, MOST_PAGES = 4, 8


@dataclass(frozen=True)
class Sources:
    """What a paper is made of.

    Attributes
    ----------
    outline : as `declaration.outline` makes it.
    tables : the files or folders of each table, by its name.
    drawings : the figures, as PDF.
    made_of : JSON files that say what figures were drawn from: for each, its `files` with their hashes.
    columns : 1 or 2.
    text : the folder with the text.
    """

    outline: Mapping[str, Any]
    tables: Mapping[str, Sequence[Path]]
    drawings: Sequence[Path]
    made_of: Sequence[Path]
    columns: int
    text: Path = TEXT


def data_of(sources: Sources, run: Path) -> dict[str, Any]:
    """What the text's macros read: rows of tables, widths in inches, which sections and figures there are."""
    declared = sources.outline["tables"]
    tables = {
        name: {
            "file": ", ".join(hashes(files, run)),
            "rows": read_rows(files, declared[name]["inside"], declared[name]["columns"]),
        }
        for name, files in sources.tables.items()
    }
    looks = PAPER[sources.columns]
    return {
        "columns": sources.columns,
        "widths": {name: look.width for name, look in looks.items()},
        "sections": list(sources.outline["sections"]),
        "left_out": list(sources.outline["left_out"]),
        "figures": dict(sources.outline["drawings"]),
        "tables": tables,
        "objectives": {
            name: {"title": measure.name, "unit": measure.unit, "higher": measure.higher_is_better}
            for name, measure in OBJECTIVES.items()
        },
    }


def write_paper(sources: Sources, pdf: Path, manifest: Path) -> None:
    """Set the paper and record what it was made of.

    The tables are hashed before they are read and again when the paper is set, so that a table that was written in
    between is no part of it.

    Raises
    ------
    UserError
        If a number was typed by hand, a macro names what is not there, a table has changed meanwhile, or a figure was
        drawn from something older.
    """
    run = manifest.parent.parent
    refuse_typed_numbers(sources.text, sources.outline["sections"])
    before = {name: hashes(files, run) for name, files in sources.tables.items()}
    figures = {name: _figure(name, sources, run) for name in sources.outline["drawings"]}
    with atomic_output(pdf) as temporary:
        recorded, pages, warnings = typeset(sources.text, data_of(sources, run), sources.drawings, temporary)
        for name, files in sources.tables.items():
            if hashes(files, run) != before[name]:
                raise UserError(f"the table '{name}' was written while the paper was set from it; run again")
        for warning in warnings:
            say(f"Typst warns: {warning}")
        if not LEAST_PAGES <= pages <= MOST_PAGES:
            say(f"the paper has {pages} pages; it is meant to have {LEAST_PAGES} to {MOST_PAGES}")
        content = {
            "paper": {"file": pdf.name, "sha256": file_sha256(temporary), "pages": pages, "columns": sources.columns},
            "versions": versions("typst", "matplotlib"),
            "sections": list(sources.outline["sections"]),
            "left_out": list(sources.outline["left_out"]),
            "text": _text_hashes(sources.text),
            "files": _all_files(before, figures),
            "figures": [
                {"name": name, **figure, "pages": _pages(recorded, "figure", name)} for name, figure in figures.items()
            ],
            "tables": [
                {"name": name, "made_of": files, "pages": _pages(recorded, "table", name)}
                for name, files in before.items()
            ],
            "numbers": numbers_of([record for record in recorded if record.get("kind") == "number"], before),
        }
    write_json(content, manifest)


def _text_hashes(text: Path) -> dict[str, str]:
    return {str(path.relative_to(text)): file_sha256(path) for path in sorted(text.rglob("*")) if path.is_file()}


def _figure(name: str, sources: Sources, run: Path) -> dict[str, Any]:
    """A figure's file with its hash, and the hashes of what it was drawn from."""
    for path in sources.made_of:
        drawn = read_json(path)
        if name in drawn["figures"]:
            (file,) = [drawing for drawing in sources.drawings if drawing.stem == name]
            now = hashes([run / source for source in drawn["files"]], run)
            changed = [source for source, sha256 in now.items() if sha256 != drawn["files"][source]]
            if changed:
                raise UserError(f"the figure '{name}' is older than {run / changed[0]}; delete {file} and run again")
            return {"file": hashes([file], run), "made_of": drawn["files"]}
    raise UserError(f"nothing says what the figure '{name}' was drawn from; delete {run / 'paper'} and run again")


def _all_files(tables: Mapping[str, Mapping[str, str]], figures: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for files in tables.values():
        found |= files
    for figure in figures.values():
        found |= figure["file"] | figure["made_of"]
    return dict(sorted(found.items()))


def _pages(recorded: Sequence[Mapping[str, Any]], kind: str, name: str) -> list[int]:
    return sorted({record["page"] for record in recorded if (record["kind"], record.get("name")) == (kind, name)})
