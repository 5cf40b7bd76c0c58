"""Numbers that were typed by hand where a macro should take them from a table.

A text is read as Typst reads it, as far as this needs: comments, labels, references and links are no prose; what stands
in brackets is, wherever it is; arguments of macros name tables, rows and columns.
"""

import re
from collections.abc import Collection
from typing import NamedTuple

WORDS = frozenset(
    {
        *("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "twenty"),
        *("thirty", "forty", "fifty", "hundred", "thousand", "million", "half", "halves", "thirds", "quarter"),
        *("quarters", "twice", "thrice", "double", "doubled", "triple", "tripled", "tenfold", "dozen", "percent"),
    }
)
_NAME = re.compile(r"[^\W\d][\w-]*")
_WORD = re.compile(r"[^\W\d_]+")
_RAW_NAME = re.compile(r"[^\W\d][\w./{}-]*")
_LABEL = re.compile(r"<[^\W\d][\w.:-]*>")
_REFERENCE = re.compile(r"@[^\W\d][\w.:-]*")
_LINK = re.compile(r"https?://[^\s\[\]()]+")
_NUMBER = re.compile(r"\d[\d_.]*(?:e[+-]?\d+)?")
_LENGTH = re.compile(r"\d[\d.]*(?:pt|mm|cm|in|em|fr|deg|%)")
_TO_THE_END_OF_THE_LINE = {"let", "set", "show", "import", "include", "return"}
_WITH_BLOCKS = {"if", "for", "while", "context"}
_SHOWING = {"written", "name"}
_CLOSING = {"(": ")", "{": "}"}


class Typed(NamedTuple):
    """A number typed by hand: where it is, what it is, and its line."""

    line: int
    number: str
    text: str


def macros_of(source: str) -> set[str]:
    """The functions that a file of macros defines, whose arguments are no prose, without those that show them."""
    return set(re.findall(r"^#let ([^\W\d][\w-]*)\(", source, re.MULTILINE)) - _SHOWING


def typed_numbers(source: str, macros: Collection[str], reports: bool = True) -> list[Typed]:
    """The numbers in a text that do not come from a macro.

    Parameters
    ----------
    source : of a Typst file.
    macros : functions whose arguments may hold numbers: names of rows, digits to show. What stands there in brackets
        is prose all the same.
    reports : whether the text tells results. Elsewhere formulas may hold numbers, and prose words for them.
    """
    scan = _Scan(source, frozenset(macros), reports)
    scan.markup(0, closing=None)
    return sorted(set(scan.found))


class _Scan:
    """Each method reads from a place, and returns the place behind what it has read."""

    def __init__(self, source: str, macros: frozenset[str], reports: bool) -> None:
        self.source, self.macros, self.reports = source, macros, reports
        self.lines = source.split("\n")
        self.found: list[Typed] = []

    def refuse(self, place: int, number: str) -> None:
        line = self.source.count("\n", 0, place)
        self.found.append(Typed(line + 1, number, self.lines[line].strip()))

    def digits(self, start: int, end: int) -> None:
        """Refuse every number in a stretch of the source."""
        at = start
        while at < end:
            if not self.source[at].isnumeric():
                at += 1
                continue
            # 1.5 is one number, and so is 10 000 with a thin space, but a full stop ends a sentence.
            stop = at
            while stop < end and (
                self.source[stop].isnumeric()
                or (self.source[stop] in ".,\u2009" and stop + 1 < end and self.source[stop + 1].isnumeric())
            ):
                stop += 1
            self.refuse(at, self.source[at:stop])
            at = stop

    def prose(self, start: int, end: int) -> None:
        self.digits(start, end)
        if self.reports:
            for word in _WORD.finditer(self.source, start, end):
                if word[0].lower() in WORDS:
                    self.refuse(word.start(), word[0])

    def no_prose(self, at: int) -> int | None:
        """The place behind a comment; None where there is none."""
        if self.source.startswith("//", at):
            end = self.source.find("\n", at)
            return len(self.source) if end < 0 else end
        if self.source.startswith("/*", at):
            depth, place = 1, at + 2
            while depth and place < len(self.source):
                mark = self.source[place : place + 2]
                depth += {"/*": 1, "*/": -1}.get(mark, 0)
                place += 2 if mark in ("/*", "*/") else 1
            return place
        return None

    def markup(self, at: int, closing: str | None) -> int:
        source, start, depth = self.source, at, 0
        while at < len(source):
            character = source[at]
            link = _LINK.match(source, at)
            after = link.end() if link else self.no_prose(at)
            if after is None and character in "<@":
                pattern = _LABEL if character == "<" else _REFERENCE
                after = found.end() if (found := pattern.match(source, at)) else None
            if after is None and character == "\\":
                # An escape such as \u{2009} is a character; of others, the next one is.
                escape = re.compile(r"\\u\{\w+\}").match(source, at)
                after = escape.end() if escape else None
                if after is None:
                    at += 2 if source[at + 1 : at + 2] in "#$`[]<@\\" else 1
                    continue
            if after is None and character in "`$#":
                self.prose(start, at)
                at = start = {"`": self.raw, "$": self.formula, "#": self.code}[character](at)
                continue
            if after is not None:
                self.prose(start, at)
                at = start = after
                continue
            if character == "[":
                depth += 1
            elif character == "]":
                if closing == "]" and depth == 0:
                    self.prose(start, at)
                    return at + 1
                depth -= 1
            at += 1
        self.prose(start, at)
        return at

    def raw(self, at: int) -> int:
        """A name in backticks may have digits; a number or a sentence may not."""
        ticks = re.compile("`+").match(self.source, at)[0]
        if len(ticks) == 2:
            return at + 2
        end = self.source.find(ticks, at + len(ticks))
        end = len(self.source) if end < 0 else end
        if not _RAW_NAME.fullmatch(self.source[at + len(ticks) : end]):
            self.digits(at + len(ticks), end)
        return end + len(ticks)

    def formula(self, at: int) -> int:
        end = at + 1
        while end < len(self.source) and self.source[end] != "$":
            end += 2 if self.source[end] == "\\" else 1
        if self.reports:
            self.digits(at, min(end, len(self.source)))
        return end + 1

    def string(self, at: int, may_hold_numbers: bool) -> int:
        end = at + 1
        while end < len(self.source) and self.source[end] != '"':
            end += 2 if self.source[end] == "\\" else 1
        if not may_hold_numbers:
            self.digits(at, min(end, len(self.source)))
        return end + 1

    def code(self, at: int) -> int:
        """What follows a hash in markup."""
        at += 1
        name = _NAME.match(self.source, at)
        if name and name[0] in _TO_THE_END_OF_THE_LINE:
            return self.statement(name.end(), stops="\n;")
        if name and name[0] in _WITH_BLOCKS:
            return self.with_blocks(name.end())
        return self.expression(at)

    def with_blocks(self, at: int) -> int:
        """A condition or loop up to its block, its block, and `else` with what belongs to it."""
        while at < len(self.source) and self.source[at] not in "{[":
            at = self.part(at, in_macro=False, lengths=False)
        at = self.part(at, in_macro=False, lengths=False)
        otherwise = re.compile(r"\s*else\b").match(self.source, at)
        return self.with_blocks(otherwise.end()) if otherwise else at

    def statement(self, at: int, stops: str) -> int:
        while at < len(self.source) and self.source[at] not in stops:
            if self.source[at] == "]":
                break  # the end of the content that it is in
            at = self.part(at, in_macro=False, lengths=True)
        return at

    def expression(self, at: int) -> int:
        """A name with its fields, and what is called with which arguments; or another literal."""
        name = _NAME.match(self.source, at)
        if not name:
            return self.part(at, in_macro=False, lengths=False) if at < len(self.source) else at
        at, is_macro = name.end(), name[0] in self.macros
        while at < len(self.source):
            field = re.compile(r"\.[^\W\d][\w-]*").match(self.source, at)
            if field:
                at = field.end()
            elif self.source[at] == "(":
                at = self.inside(at + 1, ")", is_macro, lengths=True)
            elif self.source[at] == "[":
                at = self.markup(at + 1, closing="]")
            else:
                break
        return at

    def inside(self, at: int, closing: str, in_macro: bool, lengths: bool) -> int:
        while at < len(self.source) and self.source[at] != closing:
            at = self.part(at, in_macro, lengths)
        return at + 1

    def part(self, at: int, in_macro: bool, lengths: bool) -> int:
        """One piece of code: what is in parentheses or brackets, a string, a number, a name or a sign."""
        if at >= len(self.source):
            return at  # Typst says what is missing
        source, character = self.source, self.source[at]
        if (after := self.no_prose(at)) is not None:
            return after
        if character in _CLOSING:
            return self.inside(at + 1, _CLOSING[character], in_macro, lengths or character == "(")
        if character == "[":
            return self.markup(at + 1, closing="]")
        if character == '"':
            return self.string(at, in_macro)
        if character == "$":
            return self.formula(at)
        if character == "`":
            return self.raw(at)
        if character == "<" and (label := _LABEL.match(source, at)):
            return label.end()
        if name := _NAME.match(source, at):
            if source[name.end() : name.end() + 1] == "(":
                return self.inside(name.end() + 1, ")", in_macro or name[0] in self.macros, lengths=True)
            return name.end()
        if number := _NUMBER.match(source, at):
            length = _LENGTH.match(source, at)
            # What is compared with is not shown.
            compared = source[:at].rstrip().endswith(("==", "!=", "<", ">", "<=", ">="))
            if not (in_macro or compared or (length and lengths)):
                self.refuse(at, number[0])
            return (length or number).end()
        return at + 1
