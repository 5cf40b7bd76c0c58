"""Texts of tokens, and of what is said of them, for people."""

import re
import unicodedata
from collections.abc import Sequence

from adaptive_samplers.explain.steps import Explanation, Step
from adaptive_samplers.explain.ways import Way

CUT = "cut"  # what stands in place of the probability of a token that was removed
_LINE_ENDS = {"\n": "\u21b5", "\t": "\u21e5"}


def visible_token(text: str) -> str:
    """A token's text with its outer spaces, line ends and unprintable characters made visible, on one line."""
    spaced = re.sub(r"^ +| +$", lambda spaces: "\u2423" * len(spaces[0]), text)
    shown = "".join(_LINE_ENDS.get(one, one if one.isprintable() else ascii(one)[1:-1]) for one in spaced)
    return shown or "(empty)"


def width(text: str) -> int:
    """The columns that a text takes in a terminal."""
    wide = sum(unicodedata.east_asian_width(one) in "WF" for one in text)
    return len(text) + wide - sum(unicodedata.category(one) in ("Mn", "Me") for one in text)


def fitted(text: str, columns: int) -> str:
    """A text in exactly so many columns of a terminal, cut or filled up."""
    if width(text) > columns:
        while width(text) > columns - 1:
            text = text[:-1]
        text += "\u2026"
    return text + " " * (columns - width(text))


def share(value: float) -> str:
    """A probability in at most six characters, or `cut` where it is 0."""
    if value == 0:
        return CUT
    return f"{value:.4f}" if value >= 0.00005 else "<.0001"


def nats(value: float | None) -> str:
    """A number of nats."""
    if value is None:
        return ""
    return "\u221e" if value == float("inf") else f"{value:.2f}"


def kinds_in_words(explanation: Explanation) -> list[str]:
    """What each of the ways that are compared is."""
    words = {
        "raw": "the model's own probabilities",
        "target": "the mixture of the heuristics that the samplers imitated",
        "chain": "a chain of heuristics",
        "sampler": "a learned sampler",
    }
    said = [words[way.kind] for way in explanation.ways]
    if explanation.target is not None and explanation.ways[explanation.target].kind == "chain":
        said[explanation.target] += ", the target"
    said[explanation.followed] += "; it drew the answer"
    return said


def draws_by_token(explanation: Explanation, step: Step) -> list[tuple[str, list[str]]]:
    """What all ways would have drawn with the step's uniform number: tokens, the answer's first, and who draws each."""
    ways: Sequence[Way] = [*explanation.ways, *explanation.others]
    pairs = [(seen.drawn, way.name) for seen, way in zip([*step.seen, *step.others], ways, strict=True)]
    found: dict[int, tuple[str, list[str]]] = {step.token.id: (step.token.text, [])}
    for token, name in [*pairs, (step.greedy, "greedy")]:
        names = found.setdefault(token.id, (token.text, []))[1]
        if name not in names:
            names.append(name)
    return list(found.values())
