"""One style for every figure: sizes, fonts, colors that color-blind readers can tell apart, and saving.

Colors: Okabe and Ito, "Color Universal Design", 2008. Families differ by marker too, so that nothing is shown by
color alone.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from adaptive_samplers.errors import UserError
from adaptive_samplers.figures.looks import SCREEN, Look
from adaptive_samplers.files import atomic_output
from adaptive_samplers.samplers.registry import ARCHITECTURES

WIDTH, FONT_SIZE = SCREEN  # inches and points, unless a figure is drawn for the paper
LINE_HEIGHT = 0.165  # inches of one line of text of this size, with room around it
_LOOK: ContextVar[Look] = ContextVar("look", default=SCREEN)

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GRAY, LIGHT_GRAY = "#777777", "#CCCCCC"
LEARNED_COLOR = VERMILION

_PARAMETERS = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that figures look the same everywhere
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "text.parse_math": False,  # tokens and names may contain dollar signs
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
    "svg.hashsalt": "adaptive-samplers",
}
_SIZES = (
    *("font.size", "axes.titlesize", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize"),
    *("figure.titlesize", "figure.labelsize"),
)
# Without dates and versions, the same data gives the same bytes.
_METADATA = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}


class Mark(NamedTuple):
    """How a family, an architecture or a sampler is drawn."""

    color: str
    marker: str


LEARNED_MARK = Mark(LEARNED_COLOR, "*")
_FAMILIES = {
    "temperature": Mark(BLUE, "o"),
    "top_k": Mark(ORANGE, "s"),
    "top_p": Mark(GREEN, "^"),
    "min_p": Mark(PURPLE, "D"),
    "typical": Mark(SKY, "v"),
    "epsilon": Mark(YELLOW, "P"),
    "eta": Mark(GRAY, "X"),
    "pipeline": Mark(BLACK, "h"),
}
_OTHER_FAMILIES = [
    Mark(color, marker) for marker in "p<>8d" for color in (BLUE, ORANGE, GREEN, PURPLE, SKY, GRAY, BLACK)
]
_ARCHITECTURES = {name: Mark(declared.color, declared.marker) for name, declared in ARCHITECTURES.items()}
_OTHER_ARCHITECTURES = [
    mark
    for marker in "DvPX"
    for color in (PURPLE, ORANGE, SKY, BLACK)
    if (mark := Mark(color, marker)) not in _ARCHITECTURES.values()
]


def _marks(names: Iterable[str], known: dict[str, Mark], others: Sequence[Mark]) -> dict[str, Mark]:
    names = list(dict.fromkeys(names))
    unknown = [name for name in names if name not in known]
    extra = {name: others[position % len(others)] for position, name in enumerate(unknown)}
    return {name: known.get(name) or extra[name] for name in names}


def family_marks(families: Iterable[str]) -> dict[str, Mark]:
    """A mark for each family of heuristics, in the order in which they first occur."""
    return _marks(families, _FAMILIES, _OTHER_FAMILIES)


def architecture_marks(architectures: Iterable[str]) -> dict[str, Mark]:
    """A mark for each architecture, in the order in which they first occur."""
    return _marks(architectures, _ARCHITECTURES, _OTHER_ARCHITECTURES)


@contextmanager
def style() -> Iterator[None]:
    """The style's settings, which override the user's own."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_PARAMETERS)
        mpl.rcParams.update(dict.fromkeys(_SIZES, _LOOK.get().font_size))
        yield


@contextmanager
def drawn_as(look: Look) -> Iterator[None]:
    """Draw, and save, every figure in the block with this width and size of text."""
    token = _LOOK.set(look)
    try:
        yield
    finally:
        _LOOK.reset(token)


def full_width() -> float:
    """How wide figures are drawn here, inches."""
    return _LOOK.get().width


def new_figure(height: float, width: float | None = None) -> Figure:
    """An empty figure of a size in inches, laid out so that nothing overlaps; no window, no global state."""
    figure = Figure(figsize=(width or full_width(), height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, stem_path: Path | str, formats: Sequence[str]) -> list[Path]:
    """Write a figure as `stem_path.{format}` in each of `formats` (pdf, png, svg); the same figure, the same bytes.

    Raises
    ------
    UserError
        If a format is unknown.
    """
    stem_path = Path(stem_path)
    paths = []
    for form in formats:
        if form not in _METADATA:
            raise UserError(f"unknown figure format '{form}'; known: {', '.join(_METADATA)}")
        # Not with_suffix: names such as a0.7_b0.3 contain dots.
        path = stem_path.with_name(f"{stem_path.name}.{form}")
        with style(), atomic_output(path) as temporary:
            figure.savefig(temporary, format=form, metadata=_METADATA[form])
        paths.append(path)
    return paths


def balanced_columns(panels: int, most: int) -> int:
    """How many columns, at most `most`, leave the last row of `panels` the fullest."""
    most = max(1, min(panels, most))
    return math.ceil(panels / math.ceil(panels / most))


def text_width(figure: Figure, text: str) -> float:
    """Width of a line of text at the style's size, inches."""
    with style():
        drawn = figure.text(0, 0, text, in_layout=False)
    width = drawn.get_window_extent(figure.canvas.get_renderer()).width / figure.dpi
    drawn.remove()
    return width


@cache
def _has_glyph(character: str) -> bool:
    return get_font(findfont(_PARAMETERS["font.family"])).get_char_index(ord(character)) != 0


def printable(text: str) -> str:
    """`text` with spaces and line ends made visible at its start and end, and unprintable characters escaped."""
    visible = re.sub(r"^ +| +$", lambda spaces: "\u2423" * len(spaces[0]), text)
    return "".join(
        character if character.isprintable() and _has_glyph(character) else ascii(character)[1:-1]
        for character in visible
    )
