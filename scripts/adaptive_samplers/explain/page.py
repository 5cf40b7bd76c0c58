"""An explanation as one HTML file, which needs no network: the answer's tokens, and what each way makes of each."""

import json
import math
from pathlib import Path
from typing import Any

from adaptive_samplers.explain.steps import Explanation, Seen, Step
from adaptive_samplers.explain.text import draws_by_token, kinds_in_words, visible_token
from adaptive_samplers.explain.ways import Way
from adaptive_samplers.label_summary.page import STYLE as TEXT_STYLE
from adaptive_samplers.label_summary.page import folded
from adaptive_samplers.pages import page, paragraph
from adaptive_samplers.samplers import ARCHITECTURES

DIGITS = 6  # of the numbers in the page
# Nothing but what is in the page, which holds texts of a model and its users.
HEAD = """
<meta name='viewport' content='width=device-width, initial-scale=1'>
<meta http-equiv='Content-Security-Policy' content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'; img-src data:">
<link rel='icon' href='data:,'>"""
GRAY, INK = "#8a8f98", "var(--ink)"
CHAINS = ("#7C3AED", "#0E7490", "#BE185D", "#854D0E", "#4338CA")
SAMPLERS = ("#0072B2", "#009E73", "#56B4E9", "#CC79A7")


def explanation_page(explanation: Explanation, model: str, path: Path | str) -> None:
    """Write the page of an explanation; `model` is what to call the language model."""
    here = Path(__file__).parent
    followed = explanation.ways[explanation.followed]
    said = f"Model {model}; the answer was drawn by {followed.name} with seed {explanation.seed}."
    messages = [
        f"<div class='message'><h2>{message['role']}</h2>{folded(message['content'], len(message['content']))}</div>"
        for message in explanation.messages
    ]
    parts = [
        paragraph(said),
        *messages,
        "<noscript><p>This page needs JavaScript; the command that made it prints the same as text.</p></noscript>",
        "<main id='explanation'></main>",
        f"<script type='application/json' id='data'>{_as_json(_data(explanation))}</script>",
        f"<script>{(here / 'page.js').read_text(encoding='utf-8')}</script>",
    ]
    style = TEXT_STYLE + (here / "page.css").read_text(encoding="utf-8")
    page("What each sampler would have drawn", parts, path, style, HEAD)


def _as_json(value: Any) -> str:
    """JSON that can stand in a script element, whatever texts it holds."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _data(explanation: Explanation) -> dict[str, Any]:
    """What the page's script shows."""
    words = kinds_in_words(explanation)
    return {
        "ways": [
            {"name": visible_token(way.name), "kind": way.kind, "is": said, "color": color}
            for way, said, color in zip(explanation.ways, words, _colors(explanation.ways), strict=True)
        ],
        "target": explanation.target,
        "followed": explanation.followed,
        "others": len(explanation.others) + 1,
        "vocabulary": explanation.vocabulary,
        "finish": explanation.finish_reason,
        "steps": [_step(explanation, step) for step in explanation.steps],
    }


def _colors(ways: list[Way]) -> list[str]:
    """A color for each way; those of architectures are the figures'."""
    found: list[str] = []
    chains, samplers = 0, 0
    for way in ways:
        if way.kind == "raw":
            color = GRAY
        elif way.kind == "target":
            color = INK
        elif way.kind == "chain":
            color, chains = CHAINS[chains % len(CHAINS)], chains + 1
        else:
            own = ARCHITECTURES[way.architecture].color if way.architecture else None
            if own is None or own in found:
                own, samplers = SAMPLERS[samplers % len(SAMPLERS)], samplers + 1
            color = own
        found.append(color)
    return found


def _step(explanation: Explanation, step: Step) -> dict[str, Any]:
    return {
        "uniform": _number(step.uniform),
        "id": step.token.id,
        "token": visible_token(step.token.text),
        "breaks": "\n" in step.token.text,
        "surprise": _number(step.surprise),
        "rank": step.rank,
        "shown": [[token.id, visible_token(token.text)] for token in step.shown],
        "seen": [_seen(seen) for seen in step.seen],
        "draws": [
            [visible_token(text), [visible_token(name) for name in names]]
            for text, names in draws_by_token(explanation, step)
        ],
    }


def _seen(seen: Seen) -> dict[str, Any]:
    return {
        "p": [_number(p) for p in seen.probabilities],
        "rest": _number(seen.rest),
        "entropy": _number(seen.entropy),
        "kept": seen.kept,
        "mass": _number(seen.kept_mass),
        "kl": None if seen.divergence is None or math.isinf(seen.divergence) else _number(seen.divergence),
        "drawn": [seen.drawn.id, visible_token(seen.drawn.text)],
        "span": [_number(seen.low), _number(seen.high)],
    }


def _number(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
