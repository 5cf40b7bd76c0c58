"""The PDF, by Typst: nothing is read from the network, and only the fonts that come with Typst are used."""

import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typst

from adaptive_samplers.errors import UserError
from adaptive_samplers.paper.prose import macros_of, typed_numbers

MAIN, MACROS, DATA = "paper.typ", "macros.typ", "data.json"
SECTIONS, FIGURES = "sections", "figures"
PLACE = "report/paper"


def refuse_typed_numbers(text: Path, sections: Mapping[str, bool]) -> None:
    """Check that no number in these sections was typed by hand; the values say whether a section tells results.

    Raises
    ------
    UserError
        With every such number and its place.
    """
    macros = macros_of((text / MACROS).read_text(encoding="utf-8"))
    complaints = []
    for name, reports in sections.items():
        source = (text / SECTIONS / f"{name}.typ").read_text(encoding="utf-8")
        complaints += [
            f"{PLACE}/{SECTIONS}/{name}.typ:{typed.line}: '{typed.number}' in '{typed.text}'"
            for typed in typed_numbers(source, macros, reports)
        ]
    if complaints:
        raise UserError(
            "numbers were typed into the paper by hand; take them from a table by a macro (docs/paper.md):\n"
            + "\n".join(complaints)
        )


def typeset(
    text: Path, data: Mapping[str, Any], drawings: Sequence[Path], output: Path
) -> tuple[list[dict[str, Any]], int, list[str]]:
    """Set the paper.

    Parameters
    ----------
    text : the folder with `paper.typ`, the macros, the sections and the references.
    data : what macros read.
    drawings : figures, as PDF.
    output : the PDF to write.

    Returns
    -------
    list of dict
        What the macros recorded: a dict for each number, table and figure that is shown.
    int
        Pages.
    list of str
        Typst's warnings.

    Raises
    ------
    UserError
        With Typst's message, file and line, if the text or a macro in it is wrong.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "paper"
        shutil.copytree(text, folder)
        (folder / DATA).write_text(json.dumps(data), encoding="utf-8")
        (folder / FIGURES).mkdir()
        for drawing in drawings:
            shutil.copy(drawing, folder / FIGURES)
        options = {"root": str(folder), "ignore_system_fonts": True}
        with _explained(folder), warnings.catch_warnings():
            main = str(folder / MAIN)
            # Without a time of its making, the same paper has the same bytes.
            pdf, told = typst.compile_with_warnings(main, format="pdf", timestamp=0, **options)
            found = json.loads(typst.query(main, "<recorded>", field="value", **options))
            (pages,) = json.loads(typst.query(main, "<pages>", field="value", **options))
        output.write_bytes(pdf)
    return found, pages, [warning.message for warning in told]


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except typst.TypstError as error:
        raise UserError(f"the paper cannot be set: {_message(error, folder)}") from error


def _message(error: typst.TypstError, folder: Path) -> str:
    """Typst's message after the place in the text where it comes from, rather than that in the macro."""
    said = error.message.removeprefix("panicked with: ").removeprefix("assertion failed: ")
    # Files are named from the working directory.
    found = re.findall(r"┌─ (.+?):(\d+):\d+", error.diagnostic)
    places = [(os.path.relpath(Path(file).resolve(), folder.resolve()), line) for file, line in found]
    in_text = [place for place in places if place[0].startswith(f"{SECTIONS}/")] or places
    where = f"{PLACE}/{in_text[0][0]}:{in_text[0][1]}: " if in_text else ""
    hints = "".join(f"; {hint}" for hint in error.hints)
    return f"{where}{said}{hints}"
