"""Answers with probabilities, parsed from a language model's reply with several of them.

Models keep to a format more or less. Read are JSON, strict or nearly so; XML-like tags, also unclosed ones; and lists
whose items state a probability. Of several readings of a reply the one with most probabilities counts.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

# Start of the error of an answer whose reply held none: the model's fault, and nothing was lost.
UNPARSED = "no answer in the reply"


class Probability(NamedTuple):
    """A number as it was written, with a percent sign or without."""

    value: float
    percent: bool


class Answer(NamedTuple):
    """An answer and its probability, None if it has no readable one."""

    text: str
    probability: Probability | None


def parse_verbalized(reply: str, cut: bool = False) -> list[tuple[str, float]]:
    """The distinct answers in a reply with their probabilities, which sum to 1.

    Stated numbers are relative: they are divided by their sum. An answer without one among others that have one gets
    the mean of theirs, and where none or only zeros are stated all are equally likely; what is no number, negative or
    infinite counts as not stated. Answers that differ in case and white space only are one, with the sum of their
    probabilities.

    The format is that of Zhang et al., Verbalized Sampling: How to Mitigate Mode Collapse and Unlock LLM Diversity
    (2025), and others that models write in its place.

    Parameters
    ----------
    reply : the text that the model wrote.
    cut : whether it ended in the middle, at the longest reply; an answer that may be incomplete is left out.

    Returns
    -------
    list of (answer, probability), in the order of the reply; empty where no answer can be read.
    """
    found = read_answers(reply, cut)
    merged: dict[str, tuple[str, float]] = {}
    for answer, probability in zip(found, probabilities([answer.probability for answer in found]), strict=True):
        name = same_text(answer.text)
        first, sum_before = merged.get(name, (answer.text, 0.0))
        merged[name] = (first, sum_before + probability)
    return list(merged.values())


def same_text(text: str) -> str:
    """A key that is equal for answers that count as the same."""
    return " ".join(text.split()).casefold()


def probabilities(stated: Sequence[Probability | None]) -> list[float]:
    """Numbers of one reply, brought to probabilities that sum to 1 (see `parse_verbalized`)."""
    # Next to numbers above 1, those without a percent sign count as percentages too.
    plain = [one.value for one in stated if one is not None and not one.percent]
    scale = 0.01 if any(value > 1 for value in plain) else 1.0
    values = [None if one is None else one.value * (0.01 if one.percent else scale) for one in stated]
    known = [value for value in values if value is not None]
    mean = math.fsum(known) / len(known) if known else 0.0
    filled = [mean if value is None else value for value in values]
    total = math.fsum(filled)
    if not (total > 0 and math.isfinite(total)):
        return [1 / len(filled) for _ in filled]
    return [value / total for value in filled]


def read_answers(reply: str, cut: bool = False) -> list[Answer]:
    """The answers in a reply as they are written, repeated ones and all; none of them is empty."""
    text = _without_wrapping(reply)
    readings = [_read(reading(text, cut)) for reading in (_from_json, _from_pairs, _from_tags, _from_list)]
    # Of equal readings the first, which is the stricter format.
    return max(readings, key=lambda found: (sum(answer.probability is not None for answer in found), len(found)))


def _read(answers: Iterator[Answer]) -> list[Answer]:
    cleaned = [Answer(_cleaned(answer.text), answer.probability) for answer in answers]
    return [answer for answer in cleaned if answer.text]


_THOUGHT = re.compile(r"\A\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"^[ \t]*(?:```|~~~).*$", re.MULTILINE)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "`": "`"}
_LABEL = re.compile(r"\A(?:text|response|answer)\s*:\s*", re.IGNORECASE)
_EMPHASIS = re.compile(r"\A(\*\*|__)(.+?)\1\Z", re.DOTALL)


def _without_wrapping(reply: str) -> str:
    """Without a reasoning model's thoughts before the reply, and without the fences of code blocks."""
    return _FENCE.sub("", _THOUGHT.sub("", reply))


def _cleaned(text: str) -> str:
    """Without the quotes, emphasis and label that a model puts around an answer."""
    text = text.strip()
    while True:
        before = text
        text = _LABEL.sub("", text).strip()
        if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
            text = text[1:-1].strip()
        if match := _EMPHASIS.match(text):
            text = match[2].strip()
        if text == before:
            return text


_NUMBER = re.compile(r"(?<![\w.,-])(?:\d+(?:[.,]\d+)?|[.,]\d+)(?:e[+-]?\d+)?(?P<rest>\s*%|\s*/\s*\d+)?", re.IGNORECASE)


def stated_probability(value: Any) -> Probability | None:
    """The probability that a value states: a number, or text with one, such as `30 %`, `about 0.3`, `1/3` or `0,3`."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return _usable(value, percent=False)
    match = _NUMBER.search(value) if isinstance(value, str) else None
    if match is None:
        return None
    written = match[0].replace(",", ".").replace(" ", "")
    rest = (match["rest"] or "").replace(" ", "")
    if rest.startswith("/"):
        number, divisor = written.split("/")
        return _usable(_float(number) / (_float(divisor) or math.nan), percent=False)
    return _usable(_float(written.removesuffix("%")), percent=rest == "%")


def _float(text: str) -> float:
    return float(text.strip())


def _usable(value: float, percent: bool) -> Probability | None:
    try:
        value = float(value)
    except OverflowError:
        return None
    return Probability(value, percent) if math.isfinite(value) and value >= 0 else None


# JSON

_TEXTS = ("text", "answer", "response", "content", "completion", "output", "reply")
_PROBABILITIES = ("probability", "prob", "p", "likelihood", "confidence", "weight")
_DECODER = json.JSONDecoder(strict=False)


def _from_json(text: str, cut: bool) -> Iterator[Answer]:
    """The objects and lists in a text, whatever surrounds them; if one is cut off, its complete parts."""
    end = 0
    for match in re.finditer(r"[\[{]", text):
        if match.start() < end:
            continue
        try:
            value, end = _DECODER.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        yield from _in_value(value)


def _in_value(value: Any) -> Iterator[Answer]:
    if isinstance(value, list):
        if len(value) == 2 and isinstance(value[0], str) and _is_share(value[1]):
            yield Answer(value[0], stated_probability(value[1]))
            return
        for item in value:
            yield from _in_value(item)
    elif isinstance(value, dict):
        yield from _in_object(value)


def _in_object(value: Mapping[str, Any]) -> Iterator[Answer]:
    keys = {key.strip().lower(): item for key, item in value.items()}
    text = next((keys[name] for name in _TEXTS if name in keys), None)
    number = next((keys[name] for name in _PROBABILITIES if name in keys), None)
    columns = [item for item in value.values() if isinstance(item, list)]
    if isinstance(text, str):
        yield Answer(text, stated_probability(number))
    elif len(columns) == len(value) == 2 and len(columns[0]) == len(columns[1]) and _are_texts(columns[0]):
        yield from (Answer(one, stated_probability(p)) for one, p in zip(*columns, strict=True))
    elif len(value) > 1 and all(_is_share(item) for item in value.values()):
        yield from (Answer(one, stated_probability(p)) for one, p in value.items())
    else:
        for item in value.values():
            if isinstance(item, list | dict):
                yield from _in_value(item)


def _are_texts(items: Sequence[Any]) -> bool:
    return all(isinstance(item, str) for item in items)


def _is_share(value: Any) -> bool:
    """Whether a value that is not called a probability looks like one: answers may hold other numbers."""
    number = stated_probability(value)
    return number is not None and (number.percent or (not isinstance(value, int) and number.value <= 1))


_PAIR = re.compile(
    rf"""["']?\b(?:{"|".join(_TEXTS)})["']?\s*[:=]\s*(?P<quote>["'])(?P<text>.{{0,4000}}?)(?<!\\)(?P=quote)"""
    rf"""\s*[,;]?\s*["']?\b(?:{"|".join(_PROBABILITIES)})["']?\s*[:=]\s*["']?(?P<number>[^"',;}}\]\n]*)""",
    re.DOTALL | re.IGNORECASE,
)


def _from_pairs(text: str, cut: bool) -> Iterator[Answer]:
    """What looks like JSON but is not: single quotes, unquoted keys, quotes inside a text."""
    for match in _PAIR.finditer(text):
        yield Answer(
            re.sub(r"\\([\"'])", r"\1", match["text"]).replace("\\n", "\n"), stated_probability(match["number"])
        )


# Tags

_ITEM_TAGS = ("response", "answer", "option", "candidate", "item", "text")
_PROBABILITY_TAG = re.compile(rf"<(?:{'|'.join(_PROBABILITIES)})\b[^>]*>\s*([^<]*)(?:</[^>]*>)?", re.IGNORECASE)
_TEXT_TAG = re.compile(r"<text\b[^>]*>(.*?)(?:</text\s*>|<(?:probability|prob)\b|\Z)", re.DOTALL | re.IGNORECASE)
_ATTRIBUTE = re.compile(rf"""\b(?:{"|".join(_PROBABILITIES)})\s*=\s*["']?([^"'>\s]+)""", re.IGNORECASE)
_LEFT_TAG = re.compile(rf"</?(?:{'|'.join((*_ITEM_TAGS, 'probability'))})s?\b[^>]*>", re.IGNORECASE)


def _from_tags(text: str, cut: bool) -> Iterator[Answer]:
    """`<response><text>...</text><probability>...</probability></response>`, and what comes near it."""
    for name in _ITEM_TAGS:
        openings = list(re.finditer(rf"<{name}\b([^>]*)>", text, re.IGNORECASE))
        if openings:
            break
    else:
        return
    edges = [*(opening.start() for opening in openings), len(text)]
    for opening, (_, end) in zip(openings, pairwise(edges), strict=True):
        body = text[opening.end() : end]
        closing = re.search(rf"</{name}\s*>", body, re.IGNORECASE)
        numbered = _PROBABILITY_TAG.search(body)
        if cut and end == len(text) and closing is None and not (numbered and numbered[0].endswith(">")):
            continue
        # Of items that are their own text the probability comes behind.
        inside = body[: closing.start()] if closing else body
        words = _TEXT_TAG.search(inside)
        content = words[1] if words else _PROBABILITY_TAG.sub("", inside)
        attribute = _ATTRIBUTE.search(opening[1])
        number = numbered[1] if numbered else attribute[1] if attribute else None
        yield Answer(_LEFT_TAG.sub("", content), stated_probability(number))


# Lists

_SHARE = r"(?:[01]?[.,]\d+|\d{1,3}(?:[.,]\d+)?\s*%)"  # a probability without a label
_MARKERS = (
    re.compile(
        r"^[ \t]*(?P<bold>\*\*)?(?:#+[ \t]*)?(?:(?:answer|response|option)[ \t]*#?)?\d{1,3}[ \t]*[.):](?!\d)"
        r"(?(bold)(?:\*\*)?)[ \t]*",
        re.MULTILINE | re.IGNORECASE,
    ),
    re.compile(r"^[ \t]*[-*•+][ \t]+", re.MULTILINE),
    re.compile(rf"^(?=[ \t]*[(\[]?{_SHARE}[)\]]?[ \t]*[:|–—-])", re.MULTILINE),
)
_STATEMENTS = (
    re.compile(rf"\A[(\[]?(?P<number>{_SHARE})[)\]]?\s*[:|–—-]?\s*"),
    # Labelled and set apart: a sentence may mention a probability of 0.3 too.
    re.compile(
        r"(?:\A|[(\[\n,;:|–—-])[ \t]*(?:\*\*)?(?:\b(?:probability|prob|likelihood|confidence)\b|\bp(?=\s*[:=]))"
        r"(?:\*\*|\s|\bof\b|\bis\b|[:=~≈])*(?P<number>[\d.,]+(?:e-?\d+)?(?:\s*%|\s*/\s*\d+)?)"
        r"\s*(?:[)\]]|(?=[\n,;:|–—-])|\.?\s*\Z)",
        re.IGNORECASE,
    ),
    re.compile(rf"(?:[(\[]\s*(?P<number>{_SHARE})\s*[)\]]|[:|–—-]\s*(?P<bare>{_SHARE}))\s*[.]?\Z"),
)


def _from_list(text: str, cut: bool) -> Iterator[Answer]:
    """Numbered items, bullets, or lines that begin with a probability; the first of them in which one is stated."""
    for marker in _MARKERS:
        starts = list(marker.finditer(text))
        edges = [*(start.start() for start in starts), len(text)]
        bodies = [text[start.end() : end] for start, (_, end) in zip(starts, pairwise(edges), strict=True)]
        answers = [_item(body) for body in (bodies[:-1] if cut else bodies)]
        if any(answer.probability is not None for answer in answers):
            yield from answers
            return


def _item(body: str) -> Answer:
    """An item of a list, and the probability in it, before it or after it."""
    body = body.strip()
    for statement in _STATEMENTS:
        match = statement.search(body)
        if match is None:
            continue
        named = match.groupdict()
        number = stated_probability(named["number"] or named.get("bare"))
        if number is not None:
            rest = f"{body[: match.start()].rstrip()} {body[match.end() :].lstrip()}".strip()
            return Answer(rest.strip(" \t\n,;|–—-"), number)
    return Answer(body, None)
