"""How well each architecture learns each heuristic alone."""

from typing import Any

import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from adaptive_samplers.config.model import Config
from adaptive_samplers.figures.style import LINE_HEIGHT, full_width, new_figure, style, text_width
from adaptive_samplers.files import read_json

# Shares of the raw logits' divergence: below the first, a heuristic is practically learned; above the last, not at all.
_BEST, _WORST = 0.003, 1.0


def learnability(rows: pd.DataFrame) -> Figure:
    """A heat map: a row per heuristic, a column per architecture, darker where less of the divergence is left.

    A cell shows the KL divergence from the heuristic to the sampler on held-out token-steps, its share of the raw
    logits' own, and, if the heuristic truncates, the overlap of what both keep.

    Parameters
    ----------
    rows : DataFrame with the columns architecture, heuristic, kl, identity_kl, kept_overlap
        One row per cell; `kept_overlap` is null where a heuristic cuts nothing.
    """
    heuristics = list(dict.fromkeys(rows["heuristic"]))
    architectures = list(dict.fromkeys(rows["architecture"]))
    cells = rows.set_index(["heuristic", "architecture"])
    with style():
        figure = new_figure(height=0.8 + 2.6 * LINE_HEIGHT * len(heuristics))
        room = full_width() - max(text_width(figure, name) for name in heuristics)
        axes = figure.subplots()
        share = (rows["kl"] / rows["identity_kl"]).set_axis(cells.index).unstack()
        image = axes.imshow(
            share.reindex(index=heuristics, columns=architectures),
            norm=LogNorm(_BEST, _WORST),
            cmap="Blues_r",
            aspect="auto",
        )
        for row, heuristic in enumerate(heuristics):
            for column, architecture in enumerate(architectures):
                cell = cells.loc[(heuristic, architecture)]
                part = cell["kl"] / cell["identity_kl"]
                text = f"{cell['kl']:.4f} ({_percent(part)})"
                if pd.notna(cell["kept_overlap"]):
                    text += f"\nkept {cell['kept_overlap']:.2f}"
                light = part < (_BEST * _WORST) ** 0.5
                axes.text(column, row, text, ha="center", va="center", color="white" if light else "black")
        names = architectures if room / len(architectures) > 2.2 else [_two_lines(name) for name in architectures]
        axes.set_xticks(range(len(architectures)), labels=names)
        axes.set_yticks(range(len(heuristics)), labels=heuristics)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, extend="min")
        bar.set_ticks([0.003, 0.01, 0.03, 0.1, 0.3, 1], labels=["0.3%", "1%", "3%", "10%", "30%", "100%"])
        bar.ax.minorticks_off()
        bar.set_label("KL divergence as a share of the raw logits'")
        bar.outline.set_visible(False)
    return figure


def _percent(share: float) -> str:
    return "< 0.1%" if share < 0.001 else f"{100 * share:.2g}%" if share < 0.995 else f"{100 * share:.0f}%"


def _two_lines(name: str) -> str:
    """`SimpleDistributionAwareTransform` with a line end at the capital letter nearest to its middle."""
    capitals = [place for place, letter in enumerate(name) if letter.isupper() and place]
    if not capitals:
        return name
    middle = min(capitals, key=lambda place: abs(place - len(name) / 2))
    return f"{name[:middle]}\n{name[middle:]}"


def draw(files: Any, settings: Config) -> dict[str, Figure]:
    """The figure of the rule `plot_learnability`."""
    return {"learnability": learnability(pd.DataFrame([read_json(path) for path in files.learned]))}
