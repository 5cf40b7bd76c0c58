"""Find the answer in a text: after the thinking, in the last box, or after the last "answer is"."""

import re

# Reasoning models think between these tags. If the prompt opened them, the answer has only the closing tag.
_THINKING = r"(?:think|thinking|thought|reasoning)"
_CLOSING = re.compile(rf"</{_THINKING}>", re.IGNORECASE)
_OPEN = re.compile(rf"<{_THINKING}>.*", re.DOTALL | re.IGNORECASE)

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
# Text between the parts of one answer: "$1$ and $2$", "\boxed{1}, \boxed{2}", "x = \boxed{1}$ or $x = ...".
_JOINT = re.compile(
    r"[\s$\\()\[\]]*(?:[,;]\s*(?:\\text\{)?(?:and|or)?|(?:\\text\{)?\s*(?:and|or))[\s}$\\()\[\]]*(?:[a-z]\w*\s*=\s*)?",
    re.IGNORECASE,
)

# `####` marks answers in GSM8K, but also headings in Markdown, which begin with a word.
_MARK = re.compile(r"(?<!#)####(?=[^\w\n#]*\d)|answers?\s*(?:\*\*)?\s*(?:is|are|:|=)", re.IGNORECASE)


def without_thinking(text: str) -> str:
    """The text after all thinking sections; empty if the thinking never ended."""
    ends = [found.end() for found in _CLOSING.finditer(text)]
    return _OPEN.sub("", text[ends[-1] :] if ends else text)


def last_box(text: str) -> str | None:
    r"""The content of the last `\boxed{...}`; None if there is no box. A box that does not end does not count.

    If only a comma, "and" or "or" separates it from the boxes before it, their contents are joined with commas.
    """
    boxes = list(_BOX.finditer(text))
    ends = _closing_braces(text) if boxes else {}
    closed = [(box, ends[box.end() - 1]) for box in boxes if box.end() - 1 in ends]
    return joined(text, [(box.start(), text[box.end() : end].strip(), end + 1) for box, end in closed])


def joined(text: str, parts: list[tuple[int, str, int]], only_words: bool = False) -> str | None:
    """The content of the last part of a text, joined with the parts that it continues, as in "1 and 2".

    Parts are (start, content, end), in order. Commas join them too, unless `only_words`. None if there are no parts.
    """
    if not parts:
        return None
    contents = [parts[-1][1]]
    for (_, content, end), (start, _, _) in zip(parts[-2::-1], parts[:0:-1], strict=True):
        between = _JOINT.fullmatch(text, end, start)
        if between is None or (only_words and not re.search("and|or", between.group(), re.IGNORECASE)):
            break
        contents.append(content)
    # An answer given twice is still one answer.
    return ", ".join(dict.fromkeys(reversed(contents)))


def _closing_braces(text: str) -> dict[int, int]:
    """The position of the closing brace for that of each opening brace."""
    opened: list[int] = []
    closed: dict[int, int] = {}
    for place in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        if place.group() == "{":
            opened.append(place.start())
        elif place.group() == "}" and opened:
            closed[opened.pop()] = place.start()
    return closed


def statement(text: str) -> str | None:
    """The text after the last `####` or "answer is", to the end of the line or sentence; None without such a mark."""
    marks = list(_MARK.finditer(text))
    if not marks:
        return None
    return re.split(r"\n|[.?](?=\s|$)|(?<!\d)!(?=\s|$)", text[marks[-1].end() :].lstrip(" \t\n*:"), maxsplit=1)[
        0
    ].strip()


def solution(text: str) -> str:
    """The answer of a worked solution: the content of its last box, or the text after its `####`, or all of it."""
    box = last_box(text)
    if box is not None:
        return box
    return text.rsplit("####", 1)[1].split("\n")[0].strip() if "####" in text else text.strip()
