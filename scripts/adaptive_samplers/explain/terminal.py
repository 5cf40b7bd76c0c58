"""An explanation as text: for each token of the answer what the ways make of its distribution, within some width."""

import textwrap
from collections.abc import Callable, Sequence

from adaptive_samplers.explain.steps import Explanation, Seen, Step
from adaptive_samplers.explain.text import draws_by_token, fitted, kinds_in_words, nats, share, visible_token, width

LINES = 5  # tokens of a distribution
COLUMN = 9  # characters for the numbers of a way
_TOKEN = 18
_NARROWEST = _TOKEN + COLUMN + 4
_BARS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
_BOLD, _DIM, _CHANGED, _RESET = "\x1b[1m", "\x1b[2m", "\x1b[33m", "\x1b[0m"


def as_text(explanation: Explanation, columns: int = 100, color: bool = False) -> str:
    """The explanation for a terminal of so many columns; without color it says the same.

    A table has as many ways as fit side by side; others follow below.
    """
    columns = max(columns, _NARROWEST)
    lines = _heading(explanation, columns)
    for place, step in enumerate(explanation.steps):
        lines += ["", *_step(explanation, place, step, columns, color)]
    return "\n".join([*lines, "", *_summary(explanation, columns)])


def _letters(explanation: Explanation) -> list[str]:
    """A short name for each way: raw, T for the mixture that is the target, and A, B, ..."""
    found, count = [], 0
    for way in explanation.ways:
        if way.kind in ("raw", "target"):
            found.append(way.kind)
        else:
            # After Z: AA, AB, ...
            found.append((chr(64 + count // 26) if count >= 26 else "") + chr(65 + count % 26))
            count += 1
    return found


def _heading(explanation: Explanation, columns: int) -> list[str]:
    lines = []
    for message in explanation.messages:
        said = " ".join(message["content"].split())
        lines += _wrapped(f"{message['role']}: {said}", columns, "  ")
    lines.append("")
    letters = _letters(explanation)
    for letter, way, words in zip(letters, explanation.ways, kinds_in_words(explanation), strict=True):
        name = words if letter == way.name else f"{way.name} ({words})"
        lines += _wrapped(f"{letter:<8}{name}", columns, " " * 8)
    return lines


def _step(explanation: Explanation, place: int, step: Step, columns: int, color: bool) -> list[str]:
    drawn = visible_token(step.token.text)
    head = f"{place + 1}. {drawn}   uniform {step.uniform:.4f}, surprise {step.surprise:.2f} nats"
    if step.rank:
        head += f", rank {step.rank + 1}"
    lines = [_styled(fitted(head, columns).rstrip(), _BOLD, color)]
    letters = _letters(explanation)
    fit = (columns - _TOKEN - 2) // COLUMN
    for first in range(0, len(letters), fit):
        lines += _table(explanation, step, letters[first : first + fit], step.seen[first : first + fit], color)
    for text, names in draws_by_token(explanation, step)[1:]:
        wrapped = _wrapped(f"{visible_token(text)} would be drawn by {', '.join(names)}", columns - 2, "  ")
        lines += [_styled(f"  {line}", _CHANGED, color) for line in wrapped]
    return lines


def _table(
    explanation: Explanation, step: Step, letters: Sequence[str], seen: Sequence[Seen], color: bool
) -> list[str]:
    def row(name: str, cells: Sequence[str], mark: str = " ") -> str:
        return f"{mark} {fitted(name, _TOKEN)}" + "".join(f"{cell:>{COLUMN}}" for cell in cells)

    def numbers(name: str, text_of: Callable[[Seen], str]) -> str:
        return _styled(row(name, [text_of(one) for one in seen]), _DIM, color)

    lines = [row("", letters)]
    # The answer's token is shown even if it is far down.
    places = [i for i, token in enumerate(step.shown) if i < LINES or token == step.token]
    for i in places:
        is_drawn = step.shown[i] == step.token
        cells = [share(one.probabilities[i]) + ("*" if one.drawn == step.shown[i] else " ") for one in seen]
        line = row(visible_token(step.shown[i].text), cells, ">" if is_drawn else " ")
        lines.append(_styled(line, _BOLD, color and is_drawn))
    others = [max(0.0, one.rest + sum(p for i, p in enumerate(one.probabilities) if i not in places)) for one in seen]
    lines.append(row("all others", [f"{value:.4f} " for value in others]))
    lines.append(numbers("entropy, nats", lambda one: f"{one.entropy:.2f} "))
    whole = explanation.vocabulary
    lines.append(numbers("tokens kept", lambda one: ("all" if one.kept == whole else str(one.kept)) + " "))
    if any(one.kept < whole for one in seen):
        lines.append(numbers("mass kept", lambda one: f"{one.kept_mass:.4f} "))
    if explanation.target is not None:
        lines.append(numbers("KL from target", lambda one: f"{nats(one.divergence)} "))
    return lines


def _summary(explanation: Explanation, columns: int) -> list[str]:
    steps = explanation.steps
    highest = max(step.seen[0].entropy for step in steps) or 1.0
    bars = "".join(_BARS[round(step.seen[0].entropy / highest * (len(_BARS) - 1))] for step in steps)
    lines = _wrapped("* drawn by this way with the same uniform number; > the answer's token", columns)
    lines += ["", *_wrapped(f"entropy of the raw distributions, up to {highest:.2f} nats", columns)]
    lines += [bars[first : first + columns] for first in range(0, len(bars), columns)]
    answer = " ".join(explanation.text.split())
    ending = {"stop": "", "length": " ..."}[explanation.finish_reason]
    return [*lines, "", *_wrapped(f"answer: {answer}{ending}", columns)]


def _wrapped(text: str, columns: int, indent: str = "") -> list[str]:
    """A text of any characters in lines of at most so many columns."""
    shown = visible_token(text)
    # Where characters are two columns wide, lines are of half as many.
    return textwrap.wrap(shown, columns if width(shown) <= len(shown) else columns // 2, subsequent_indent=indent)


def _styled(text: str, style: str, color: bool) -> str:
    return f"{style}{text}{_RESET}" if color and text else text
