"""What `run.py` times, a module for each area: `cases()` gives rows of the results, each with a baseline and ours.

A row may declare its `bar`, the ratio that it should reach at least; `divide` has what the times of the baseline and of
ours are divided by. Imports stand in the functions, so that an area loads only what it needs.
"""

from collections.abc import Callable
from typing import Any

Work = Callable[[], Any]
Row = dict[str, Any]
Case = tuple[Row, Work, Work]


class Measured(float):
    """What a case measures itself, where it is not time."""
