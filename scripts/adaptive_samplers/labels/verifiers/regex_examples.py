"""Find texts that a regular expression matches. One that matches none cannot tell right from wrong answers."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

_TRIED = 2_000
_CHARACTERS = "a0 -\né_A"
_AROUND = ("", " ", "a", "\n")
# Lookarounds and backreferences: whether they hold depends on more than one piece.
_UNDECIDED = {codes.ASSERT, codes.ASSERT_NOT, codes.GROUPREF, codes.GROUPREF_IGNORE, codes.GROUPREF_EXISTS}


def example_of(pattern: str, match_whole: bool = False) -> str | None:
    """A text that a pattern matches, as a whole if `match_whole`; None if there is none, as for "$5".

    For very long patterns and those with lookarounds or backreferences, "" stands for a text that may exist.
    """
    tree = parser.parse(pattern, re.IGNORECASE)
    if _looks_around(tree):
        return ""
    match = re.compile(pattern, re.IGNORECASE)
    search = match.fullmatch if match_whole else match.search
    try:
        for text in islice(_texts(list(tree)), _TRIED):
            for around in _AROUND:
                if search(f"{around}{text}{around}".strip()) or search(f"{text}{around}".strip()):
                    return text
    except RecursionError:
        return ""
    return None


def _looks_around(tree: Any) -> bool:
    return any(code in _UNDECIDED or any(map(_looks_around, _parts(argument))) for code, argument in tree)


def _parts(argument: Any) -> Iterator[Any]:
    if isinstance(argument, parser.SubPattern):
        yield argument
    elif isinstance(argument, list | tuple):
        for part in argument:
            yield from _parts(part)


def _texts(items: Sequence[tuple[Any, Any]]) -> Iterator[str]:
    """Texts that match a sequence of pieces, the shortest and plainest first."""
    if not items:
        yield ""
        return
    for first in _piece(*items[0]):
        for rest in _texts(items[1:]):
            yield first + rest


def _piece(code: Any, argument: Any) -> Iterator[str]:
    if code == codes.LITERAL:
        yield chr(argument)
    elif code == codes.NOT_LITERAL:
        yield from (character for character in _CHARACTERS if ord(character) != argument)
    elif code == codes.ANY:
        yield from (character for character in _CHARACTERS if character != "\n")
    elif code == codes.IN:
        yield from _members(argument)
    elif code == codes.BRANCH:
        for branch in argument[1]:
            yield from _texts(list(branch))
    elif code == codes.SUBPATTERN:
        yield from _texts(list(argument[-1]))
    elif code == codes.ATOMIC_GROUP:
        yield from _texts(list(argument))
    elif code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
        least, most, repeated = argument
        for count in {least, min(least + 1, most)}:
            yield from _texts([item for _ in range(count) for item in repeated])
    else:
        yield ""  # the beginning, the end, a boundary


def _members(members: Sequence[tuple[Any, Any]]) -> Iterator[str]:
    """Characters in a set."""
    named = dict(members)
    if codes.NEGATE not in named and members[0][0] == codes.LITERAL:
        yield chr(members[0][1])
    candidates = [*_CHARACTERS, *(chr(argument[0]) for code, argument in members if code == codes.RANGE)]
    yield from (character for character in candidates if _is_member(character, members))


def _is_member(character: str, members: Sequence[tuple[Any, Any]]) -> bool:
    found = False
    for code, argument in members:
        if code == codes.LITERAL:
            found |= ord(character) == argument
        elif code == codes.RANGE:
            found |= argument[0] <= ord(character) <= argument[1]
        elif code == codes.CATEGORY:
            found |= _is_of(character, argument)
    return found != any(code == codes.NEGATE for code, _ in members)


def _is_of(character: str, category: Any) -> bool:
    name = str(category).removeprefix("CATEGORY_")
    letter = {"DIGIT": "d", "SPACE": "s", "WORD": "w"}.get(name.removeprefix("NOT_"), "w")
    return bool(re.match("\\" + (letter.upper() if name.startswith("NOT_") else letter), character))
