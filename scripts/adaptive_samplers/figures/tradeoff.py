"""Quality against diversity."""

import math
from collections.abc import Iterator, Sequence
from itertools import count, pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from adaptive_samplers.config.model import Config
from adaptive_samplers.evaluation import LEARNED
from adaptive_samplers.figures.ranking import rows_of
from adaptive_samplers.figures.style import (
    GRAY,
    LEARNED_MARK,
    LINE_HEIGHT,
    Mark,
    family_marks,
    full_width,
    new_figure,
    style,
    text_width,
)
from adaptive_samplers.heuristics import split_preference
from adaptive_samplers.measures import OBJECTIVES
from adaptive_samplers.tables import read_table

Obstacles = list[tuple[np.ndarray, float]]

_PLOT_HEIGHT = 3.9  # inches
_FRONT = {"color": GRAY, "linewidth": 1, "linestyle": (0, (4, 3))}
_RINGS = (8.5, 13, 18, 24)  # points from a mark to the middle of its label; farther only where these are taken
_GAP = 3.0  # points between labels, so that two numbers do not read as one
_KEY_INDENT = 0.48  # inches before a name in the key: its marker and its number


def pareto_front(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of the points that no other one equals or beats in both `x` and `y`, by rising `x`."""
    best = -math.inf
    front = []
    for index in np.lexsort((-y, -x)):
        if y[index] > best:
            best = y[index]
            front.append(index)
    return np.array(front[::-1], dtype=int)


def _paired(comparison: pd.DataFrame, diversity: str) -> pd.DataFrame:
    """A row per sampler that has both objectives, with the columns of each suffixed."""
    columns = ["mean", "low", "high"]
    quality = rows_of(comparison, "quality").set_index("name")
    other = rows_of(comparison, diversity).set_index("name")[columns]
    both = quality[columns].add_suffix("_quality").join(other.add_suffix("_diversity"), how="inner")
    return quality[["family", "kind"]].join(both, how="inner")


def _short_names(rows: pd.DataFrame) -> dict[str, str]:
    """Numbers for heuristics and letters for learned samplers, in the order of the key."""
    numbers, letters = 0, 0
    short = {}
    for name, kind in rows["kind"].items():
        if kind == LEARNED:
            short[name] = chr(ord("A") + letters % 26) * (1 + letters // 26)
            letters += 1
        else:
            numbers += 1
            short[name] = str(numbers)
    return short


def _square(center: np.ndarray, reach: float | np.ndarray) -> np.ndarray:
    """The box (left, bottom, right, top) around `center` with these half-widths."""
    return np.concatenate([center - reach, center + reach])


def _shared_areas(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Areas that `box` shares with each of `others` [n, 4]."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    return np.clip(high - low, 0, None).prod(axis=1)


def _places(point: np.ndarray, scale: float) -> Iterator[list[tuple[np.ndarray, float]]]:
    """Candidate label centers around `point`, with their distance, in rings that continue outward without end."""
    for ring in count():
        radius = scale * (_RINGS[ring] if ring < len(_RINGS) else _RINGS[-1] + 6 * (ring - len(_RINGS) + 1))
        angles = np.arange(16) * math.pi / 8 + math.pi / 4
        yield [(point + radius * np.array([math.cos(angle), math.sin(angle)]), radius) for angle in angles]


def _best_place(
    index: int,
    points: np.ndarray,
    size: np.ndarray,
    frame: np.ndarray,
    obstacles: Obstacles,
    labels: Sequence[np.ndarray],
    scale: float,
) -> tuple[np.ndarray, float]:
    """Center and distance, in pixels, of the label of `points[index]` where it costs least.

    It never comes nearer to another label than `_GAP`: if all near positions do, farther ones are tried. A position
    costs what it covers, what is outside the frame, its distance, and more if another point is nearer.
    """
    area = size.prod()
    boxes = np.array([box for box, _ in obstacles])
    weights = np.array([weight for _, weight in obstacles])
    others = np.array(labels).reshape(-1, 4)
    found = []
    for ring, places in enumerate(_places(points[index], scale)):
        for center, radius in places:
            if _shared_areas(_square(center, size / 2 + _GAP * scale), others).any():
                continue
            box = _square(center, size / 2)
            covered = weights @ _shared_areas(box, boxes)
            outside = area - _shared_areas(box, frame[None])[0]
            misleading = area * (np.argmin(np.hypot(*(points - center).T)) != index)
            found.append((covered + 10 * outside + 0.4 * misleading + scale * radius, center, radius))
        if found and ring >= len(_RINGS) - 1:
            return min(found, key=lambda place: place[0])[1:]


def _place_labels(axes: Axes, points: np.ndarray, labels: Sequence[str], obstacles: Obstacles) -> None:
    """Write each label next to its point where it covers least and touches no other, the most crowded points first.

    Parameters
    ----------
    points : array [n, 2]
        In pixels.
    obstacles : list of (box, weight)
        What labels should not cover, in pixels, and how bad it is.
    """
    figure = axes.get_figure(root=True)
    renderer = figure.canvas.get_renderer()
    scale = figure.dpi / 72
    distances = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    crowd = (distances < 25 * scale).sum(axis=1)
    frame = axes.get_window_extent(renderer).extents
    obstacles, placed = list(obstacles), []
    for index in np.argsort(-crowd, kind="stable"):
        text = axes.annotate(
            labels[index],
            axes.transData.inverted().transform(points[index]),
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            zorder=6,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )
        size = np.array(text.get_window_extent(renderer).size)
        center, radius = _best_place(index, points, size, frame, obstacles, placed, scale)
        offset = center - points[index]
        text.set_position(tuple(offset / scale))
        placed.append(_square(center, size / 2))
        if radius > 13 * scale:
            ends = points[index] + np.array([[0.3], [1 - 5.5 * scale / radius]]) * offset
            axes.plot(*axes.transData.inverted().transform(ends).T, color=GRAY, linewidth=0.6, zorder=5)
            obstacles += [(box, 2.0) for box in _boxes_along(ends, 2 * scale)]


def _boxes_along(points: np.ndarray, step: float) -> list[np.ndarray]:
    """Squares of side `step` along the line through `points` [n, 2], so that labels can keep off it."""
    boxes = []
    for start, end in pairwise(points):
        if not np.isfinite([start, end]).all():
            continue
        steps = max(1, int(np.hypot(*(end - start)) / step))
        boxes += [_square(center, step / 2) for center in np.linspace(start, end, steps + 1)]
    return boxes


class KeyLine(NamedTuple):
    """A line of the key: how its sign is drawn (None in a heading), the short name in the plot, and the text."""

    sign: dict | None
    short: str
    text: str


def _key_lines(rows: pd.DataFrame, short: dict[str, str], marks: dict[str, Mark]) -> list[KeyLine]:
    """The key: heuristics, their front, and learned samplers under the name of their architecture."""
    heuristics = rows[rows["kind"] != LEARNED]
    lines = [KeyLine(_sign(marks[family]), short[name], name) for name, family in heuristics["family"].items()]
    if lines:
        lines.append(KeyLine(_FRONT, "", "Pareto front of the heuristics"))
    heading = None
    for name in rows.index[rows["kind"] == LEARNED]:
        architecture, _, rest = name.partition(" ")
        if rest and architecture != heading:
            lines.append(KeyLine(None, "", architecture))
            heading = architecture
        lines.append(KeyLine(_sign(LEARNED_MARK), short[name], rest or name))
    return lines


def _into_columns(lines: Sequence[KeyLine], columns: int) -> list[list[KeyLine]]:
    """Split the key into a limited number of columns, as short as possible, with no heading at the end of one."""
    for height in range(math.ceil(len(lines) / columns), len(lines) + 1):
        split, rest = [], list(lines)
        while rest:
            size = min(height, len(rest))
            while 1 < size < len(rest) and rest[size - 1].sign is None:
                size -= 1
            split.append(rest[:size])
            rest = rest[size:]
        if len(split) <= columns:
            break
    return split


def _draw_key(axes: Axes, key_columns: Sequence[Sequence[KeyLine]]) -> None:
    """Columns of key lines, in axes whose units are inches from the top left corner."""
    placed = [(column, row, line) for column, lines in enumerate(key_columns) for row, line in enumerate(lines)]
    for column, row, line in placed:
        left = column * full_width() / len(key_columns)
        y = (row + 0.5) * LINE_HEIGHT
        if line.sign is None:
            axes.text(left + 0.1, y, line.text, va="center", fontstyle="italic")
            continue
        ends = [left + 0.14] if line.sign.get("marker") else [left + 0.04, left + _KEY_INDENT - 0.08]
        axes.plot(ends, [y] * len(ends), **line.sign)
        axes.text(left + _KEY_INDENT - 0.06, y, line.short, va="center", ha="right", fontweight="bold")
        axes.text(left + _KEY_INDENT, y, line.text, va="center")


def _sign(mark: Mark) -> dict:
    return {
        "marker": mark.marker,
        "color": mark.color,
        "markersize": 11 if mark == LEARNED_MARK else 6,
        "linestyle": "",
        "markeredgecolor": "black",
        "markeredgewidth": 0.5,
    }


def _front_line(x: np.ndarray, y: np.ndarray, sign: float) -> np.ndarray:
    """Corners `[n, 2]` of the staircase that bounds what points reach; `sign` is -1 if less `x` is better."""
    front = pareto_front(sign * x, y)
    x, y = x[front], y[front]
    return np.column_stack([np.repeat(x, 2)[:-1], np.repeat(y, 2)[1:]])


def _curves(names: Sequence[str]) -> list[list[int]]:
    """Which rows are one sampler at several preferences, by rising preference."""
    found: dict[str, list[tuple[float, int]]] = {}
    for position, name in enumerate(names):
        sampler, preference = split_preference(name)
        if preference is not None:
            found.setdefault(sampler, []).append((preference, position))
    return [[position for _, position in sorted(places)] for places in found.values()]


def tradeoff(comparison: pd.DataFrame, diversity: str = "embedding_entropy") -> Figure:
    """Quality against diversity of every heuristic and learned sampler, with a key of their names.

    Heuristics are numbered and marked by family, learned samplers are lettered stars with both intervals, joined by a
    line where they are one sampler at several preferences. The dashed
    staircase is the heuristics' Pareto front: nothing on the better side of it is a heuristic. Axes point so that
    better is up and right.

    Parameters
    ----------
    comparison : DataFrame
        A `comparison` table with `quality` and the measure of diversity.
    diversity : str
        The measure, one of `DIVERSITY_MEASURES`.

    Raises
    ------
    UserError
        If the table lacks one of them.
    """
    rows = _paired(comparison, diversity)
    marks = family_marks(comparison["family"])
    short = _short_names(rows)
    lines = _key_lines(rows, short, marks)
    x, y = rows["mean_diversity"].to_numpy(), rows["mean_quality"].to_numpy()
    learned = (rows["kind"] == LEARNED).to_numpy()
    sign = OBJECTIVES[diversity].sign
    drawn_lines = []
    with style():
        figure = new_figure(height=1.0)
        widest = _KEY_INDENT + max(text_width(figure, line.text) for line in lines) + 0.1
        columns = max(1, min(4, int(full_width() // widest)))
        key_columns = _into_columns(lines, columns)
        key_height = max(map(len, key_columns)) * LINE_HEIGHT
        figure.set_size_inches(full_width(), _PLOT_HEIGHT + key_height)
        upper, lower = figure.subfigures(2, height_ratios=[_PLOT_HEIGHT, key_height])
        axes = upper.subplots()
        key = lower.add_axes((0, 0, 1, 1), xlim=(0, full_width()), ylim=(key_height, 0))
        key.axis("off")
        _draw_key(key, key_columns)

        for position, row in enumerate(rows.itertuples(index=False)):
            if learned[position]:
                across = np.array([[row.low_diversity, row.mean_quality], [row.high_diversity, row.mean_quality]])
                up = np.array([[row.mean_diversity, row.low_quality], [row.mean_diversity, row.high_quality]])
                for bar in (across, up):
                    axes.plot(*bar.T, color=LEARNED_MARK.color, linewidth=0.9, alpha=0.7, zorder=2)
                drawn_lines += [across, up]
            mark = LEARNED_MARK if learned[position] else marks[row.family]
            axes.plot(x[position], y[position], zorder=4 if learned[position] else 3, **_sign(mark))
        for curve in _curves(rows.index):
            line = np.column_stack([x[curve], y[curve]])
            axes.plot(*line.T, color=LEARNED_MARK.color, linewidth=1.2, zorder=2.5)
            drawn_lines.append(line)
        if not learned.all():
            front = _front_line(x[~learned], y[~learned], sign)
            axes.plot(*front.T, zorder=1, **_FRONT)
            drawn_lines.append(front)
        axes.margins(0.06)
        if sign < 0:
            axes.invert_xaxis()
        axes.set_xlabel(OBJECTIVES[diversity].axis)
        axes.set_ylabel(OBJECTIVES["quality"].axis)
        axes.grid()

        figure.draw_without_rendering()
        pixels = figure.dpi / 72
        points = axes.transData.transform(np.column_stack([x, y]))
        reach = np.where(learned, 5, 3.5) * pixels
        obstacles = [(_square(point, size), 2.0) for point, size in zip(points, reach, strict=True)]
        for line in drawn_lines:
            obstacles += [(box, 0.7) for box in _boxes_along(axes.transData.transform(line), 2 * pixels)]
        _place_labels(axes, points, [short[name] for name in rows.index], obstacles)
    return figure


def draw(files: Any, settings: Config) -> dict[str, Figure]:
    """The figure of the rule `plot_tradeoff`."""
    comparison = read_table("comparison", files.comparison)
    return {"tradeoff": tradeoff(comparison, settings.scoring.diversity_measure)}
