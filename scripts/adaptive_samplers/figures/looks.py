"""How wide figures are drawn, and the size of their text: on the screen, and in the paper of one or two columns.

Only the standard library is needed here, because rules read it.
"""

from typing import NamedTuple


class Look(NamedTuple):
    """How wide a figure is drawn (inches), and the size of its text (points)."""

    width: float
    font_size: float


SCREEN = Look(7.0, 9.0)
# Of the paper, by its number of columns: as wide as a column, or as the text of the page. The paper is set in the same
# widths, so that figures are shown in the size in which they were drawn.
PAPER = {
    1: {"column": Look(4.6, 8.0), "page": Look(6.3, 8.0)},
    2: {"column": Look(3.35, 7.0), "page": Look(7.0, 8.0)},
}
