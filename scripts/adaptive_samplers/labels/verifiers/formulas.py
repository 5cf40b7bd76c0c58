"""Formulas in texts: find the answer's formula, read it, and check that all of it was read.

math-verify interprets a formula and reads the inside of a box well. It does not find the formula in a text here,
because it may drop a part: from "2\\sqrt{3}" without dollar signs it reads the 2.
"""

import re
from functools import lru_cache
from typing import Any

from adaptive_samplers.labels.verifiers.final_text import joined, last_box, statement

_DELIMITED = re.compile(
    r"(?<!\\)\$\$(?P<a>.+?)\$\$|\\\[(?P<b>.+?)\\\]|\\\((?P<c>.+?)\\\)|(?<![\\$\d])\$(?P<d>(?:\\.|[^$\n\\])+?)\$",
    re.DOTALL,
)
_TEXT = r"\\(?:text|textbf|textit|textrm|textnormal|mbox|mathrm|mathbf|mathit|mathsf|operatorname)\s*\{([^{}]*)\}"
_COMMAND = re.compile(r"\\(?:begin|end)\s*\{[a-z]*\*?\}|\\[A-Za-z]+")
_DOLLAR = re.compile(r"(?<!\\)\$")
_TEXT_COMMAND = re.compile(_TEXT)
_WORD = re.compile(
    r"(?<![\\A-Za-z{])(?:[A-Za-z]{4,}|(?:[Yy]es|[Nn]o|[Oo]dd|[Aa]ll|DNE)(?![A-Za-z]))(?:\s+[A-Za-z]{2,})*(?![A-Za-z}])"
)

# Units follow a number without changing it. Words that change it are not units.
_SHORT_UNITS = (
    "cm|mm|km|dm|nm|kg|mg|ml|mL|cl|kL|ft|in|yd|mi|lbs?|oz|hrs?|mins?|secs?|ms|mph|kmh|kph|deg|rad|cups?|days?|gal|sq|cu|"
    "cents?|Hz|kW|kJ|mol|atm|AU|USD|EUR"
)
# Single letters that are units; x and n are variables.
_UNIT_WORD = rf"(?:[A-Za-z]{{4,}}|(?:{_SHORT_UNITS})(?![A-Za-z])|[mgshlLJNWVAKCFtd°µΩ](?![A-Za-z]))\.?"
_UNITS = rf"{_UNIT_WORD}(?:[\s/*]*{_UNIT_WORD})*"
_POWER = r"(?:\s*\^\s*\{?\s*[-0-9]+\s*\}?|[²³])?"
_WITHOUT_LETTERS = r"(?P<number>(?:[^A-Za-z]|\\(?!text|mbox|math|operatorname)[A-Za-z]+)*[\d})\]])"
_TEXT_UNIT = re.compile(rf"{_WITHOUT_LETTERS}(?:\s|\\[,;:! ~])*{_TEXT}{_POWER}\s*", re.DOTALL)
_SPACED_UNIT = re.compile(rf"{_WITHOUT_LETTERS}\s+((?![A-Za-z](?![A-Za-z])){_UNITS}){_POWER}\s*")
_ANY_UNIT = re.compile(rf"{_WITHOUT_LETTERS}\s*({_UNITS}){_POWER}\s*")
_NAMES_OF_UNITS = re.compile(r"\s*[A-Za-z°µΩ]+\.?(?:[\s/*]*[A-Za-z°µΩ]+\.?)*\s*")
_NO_UNITS = re.compile(
    r"\b(?:(?i:and|or|more|less|fewer|than|least|most|about|not|no|mod|modulo|base|hundreds?|thousands?|[a-z]+illions?|"
    r"dozens?|pairs?|half|halves|thirds?|quarters?|percent|pm|am|p\.m|a\.m|remainder|times|even|odd|if|for|when|where|"
    r"is|are|th|st|nd|rd|pi|e|i)|k|M|R)\b"
)

_SPACES = r"(?:\\[,;:! ]|[\u00a0\u2007\u2009\u202f\u2005\u2006~ ])"
_SIMPLER = [
    (re.compile(r"[\u2212\u2013]"), "-"),
    (re.compile(r"\\!"), ""),
    (re.compile(rf"(?<![\d,.])(\d{{1,3}})((?:{_SPACES}\d{{3}})+)(?!\d)"), lambda m: m[1] + re.sub(r"\D", "", m[2])),
    (re.compile(r"(?<![\d.])(\d+)\s+(\d+)\s*/\s*(\d+)(?!\d)"), r"\1\\frac{\2}{\3}"),  # 3 1/2
    (re.compile(r"(?<![\w.])(\d+(?:\.\d+)?|\.\d+)[eE]([-+]?\d+)(?!\w)"), r"\1 \\cdot 10^{\2}"),
    (re.compile(r"(\d*)\.(\d*)\\overline\s*\{(\d+)\}"), lambda found: _repeating(*found.groups())),
    # A number in another base is a different number, which sympy cannot represent.
    (re.compile(r"(?<![\w.])(\d+)\s*_\s*\{?\s*(\d+)\s*\}?(?!\w)"), r"\1\\text{base\2}"),
    (re.compile(r"\\langle\b"), "("),
    (re.compile(r"\\rangle\b"), ")"),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?(?:\s|\\text)*\{?\s*[CF]\b\}?"), ""),  # temperatures
]
_ELLIPSIS = re.compile(r"\\[lc]?dots\b|\.\.\.|…")
# "12 13" is not a formula, and would be read as a sum.
_SIDE_BY_SIDE = re.compile(r"(?:^|[-+*/=(\[,])\s*\d+(?:[.,]\d+)*\s+\d")
_DROPPED = re.compile(r"\\(?:left|right|[bB]ig+[lr]?|displaystyle|textstyle|limits|nolimits)(?![A-Za-z])")


def answer_formula(text: str) -> str | None:
    """The formula that an answer gives, as written; None if there is none.

    The first of these that exists: the last box; the text after the last "answer is", if a formula or a few words;
    the last formula in that text; the last formula in the answer, between dollar signs or similar, or bare.
    """
    box = last_box(text)
    if box is not None:
        return box
    stated = statement(text)
    if stated:
        bare = _bare(stated)
        if len(_outside_text(bare).split()) <= 3 and bare.count("$") == 0 and read_formula(bare) is not None:
            return bare
        found = _last_formula(stated)
        if found is not None:
            return found
    return _last_formula(text)


def _bare(text: str) -> str:
    """A formula without delimiters, bold type and a full stop around it."""
    text = text.strip()
    while True:
        shorter = text.strip("*_` \n").removesuffix(".").removesuffix(",").strip()
        found = _DELIMITED.fullmatch(shorter)
        shorter = next(filter(None, found.groups())) if found else shorter
        if shorter == text:
            return text
        text = shorter


def _outside_text(formula: str) -> str:
    return _TEXT_COMMAND.sub(" ", formula)


def _last_formula(text: str) -> str | None:
    """The formula that ends last, joined with those that it continues."""
    parts = []
    for found in _DELIMITED.finditer(text):
        content = next(filter(None, found.groups()))
        # Prose between two dollar amounts is not a formula.
        if found["d"] is None or not re.search(r"(?<!\\)[A-Za-z]{4,}", _COMMAND.sub("", _outside_text(content))):
            parts.append((found.start(), content.strip(), found.end()))
    bare = _bare_formulas(text, parts)
    if bare and (not parts or bare[-1][2] > parts[-1][2]):
        return joined(text, bare, only_words=True)
    return joined(text, parts)


# A word, or brackets that hold no words.
_WORDS = re.compile(r"(?:[(\[{](?:(?![A-Za-z]{2})[^()\[\]{}\n])*[)\]}]|\S)+")
_OPERATORS = re.compile(r"[-+*/=<>^|·×÷≤≥≠≈]+|\\(?:times|cdot|div|leq?|geq?|neq?|pm|approx|cup|cap)")
_FUNCTIONS = ("sin", "cos", "tan", "log", "ln", "sqrt", "pi")


def _bare_formulas(text: str, parts: list[tuple[int, str, int]]) -> list[tuple[int, str, int]]:
    """Runs of words outside `parts` that look like formulas: start, content and end of each."""
    formulas: list[tuple[int, str, int]] = []
    run: list[re.Match[str]] = []

    def end_run() -> None:
        while run and _OPERATORS.fullmatch(_core(run[-1])):
            run.pop()
        words = [_core(word) for word in run]
        if any(re.search(r"\d|\\[A-Za-z]", word) for word in words):
            formulas.append((run[0].start(), " ".join(words), run[-1].start() + len(words[-1])))
        run.clear()

    for word in _WORDS.finditer(text):
        core = _core(word)
        is_inside = any(start < word.end() and word.start() < end for start, _, end in parts)
        is_operator = bool(_OPERATORS.fullmatch(core))
        is_letter = len(core) == 1 and core.isalpha()
        if is_inside or not (is_operator or is_letter or _looks_like_formula(core)):
            end_run()
            continue
        goes_on = bool(run) and (
            is_operator
            or bool(_OPERATORS.fullmatch(_core(run[-1])))
            or core.startswith(("-", "=", "\\"))
            or (_core(run[-1]).isdigit() and bool(re.fullmatch(r"\d+/\d+", core)))  # 3 1/2
        )
        if not goes_on:
            end_run()
        if goes_on or not is_operator or core in "+-":
            run.append(word)
        if word.group().strip(_AROUND) != core:
            end_run()  # at the end of a sentence or clause
    end_run()
    return formulas


_AROUND = "*`\"'“”"


def _core(word: re.Match[str]) -> str:
    return word.group().strip(_AROUND).rstrip(".,;:!?")


def _looks_like_formula(word: str) -> bool:
    plain = _COMMAND.sub("", _outside_text(word))
    # Letters directly after a number may be its unit.
    letters = re.findall(r"[A-Za-z]+", re.sub(r"(?<=\d)[A-Za-z]+$", "", plain))
    return bool(re.search(r"\d|\\[A-Za-z]", word)) and all(len(part) == 1 or part in _FUNCTIONS for part in letters)


def _repeating(whole: str, once: str, again: str) -> str:
    """A repeating decimal as a fraction: 0.1 with 6 repeated is 15/90."""
    top = int(f"{whole}{once}{again}") - int(f"{whole}{once}" or 0)
    return rf"\frac{{{top}}}{{{'9' * len(again)}{'0' * len(once)}}}"


def _simplified(formula: str, units_of_letters: bool) -> str:
    formula = _bare(formula).removeprefix("=").strip()
    for pattern, replacement in _SIMPLER:
        formula = pattern.sub(replacement, formula)
    formula = _without_unit(formula, units_of_letters)
    # Words are names, not products of letters: "even" is not "neve".
    return _in_words(formula)


def _in_words(formula: str) -> str:
    pieces, end = [], 0
    for found in _TEXT_COMMAND.finditer(formula):
        pieces += [_WORD.sub(r"\\text{\g<0>}", formula[end : found.start()]), found.group()]
        end = found.end()
    return "".join([*pieces, _WORD.sub(r"\\text{\g<0>}", formula[end:])])


def _without_unit(formula: str, of_letters: bool) -> str:
    for pattern in (_TEXT_UNIT, _ANY_UNIT if of_letters else _SPACED_UNIT):
        found = pattern.fullmatch(formula)
        if found and _NAMES_OF_UNITS.fullmatch(found[2]) and not _NO_UNITS.search(found[2]):
            return found["number"].strip()
    return formula


@lru_cache(maxsize=4096)
def read_formula(formula: str, units_of_letters: bool = False) -> Any:
    """Parse a formula into a sympy object with math-verify; None if it cannot be read.

    Units after a number are dropped: words of several letters and words in `\\text`. Letters attached to the number,
    as in 12m, are dropped only with `units_of_letters`.
    """
    from latex2sympy2_extended.sets import FiniteSet

    simple = _simplified(formula, units_of_letters)
    if not simple or not _is_balanced(simple) or _SIDE_BY_SIDE.search(simple) or len(_DOLLAR.findall(simple)) > 1:
        return None
    parsed = _parsed(simple)
    if parsed is None and simple.count("\\pm") == 1:
        both = [_parsed(simple.replace("\\pm", sign)) for sign in "+-"]
        parsed = None if None in both else FiniteSet(*both)
    return parsed


def _parsed(formula: str) -> Any:
    import sympy
    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    settings = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="last")
    found = parse(
        f"\\boxed{{{formula}}}",
        [LatexExtractionConfig(normalization_config=settings)],
        fallback_mode="no_fallback",
        parsing_timeout=None,
    )
    return found[0] if found and isinstance(found[0], sympy.Basic | sympy.MatrixBase) else None


def _is_balanced(formula: str) -> bool:
    depth = 0
    for place in re.finditer(r"\\.|[{}]", formula, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(place.group(), 0)
        if depth < 0:
            return False
    return depth == 0


_SIMPLE_NUMBER = re.compile(r"-?\d+(?:\.\d+)?|-?\\[dt]?frac\{\d+\}\{\d+\}")
_SYMBOL = re.compile(r"\\[A-Za-z]+|\\.|\d+|[A-Za-z]|[-!'\"|:%&;…]")
# Deleting these should not change how a formula is read.
_MARKUP = re.compile(
    r"\\(?:cdot|times|[^A-Za-z]|[dtc]?frac|quad|qquad|circ|lbrace|rbrace|mid)$|\\(?:text|math|mbox|operatorname)[a-z]*$|[&;]"
)


def unread_part(formula: str, parsed: Any) -> str | None:
    """Say in words which part of a formula was not read, or was read into it; None if the reading is faithful.

    Every number, letter, command and sign is changed in turn, and the parsed formula must change with it.
    """
    simple = _simplified(formula, units_of_letters=False)
    if _ELLIPSIS.search(formula):
        return "without what its dots stand for"
    if _SIMPLE_NUMBER.fullmatch(simple):
        return None
    if (stranger := _stranger(simple, parsed)) is not None:
        return f"with a {stranger!r} that is not in it"
    simple = _DROPPED.sub("", simple)
    words = [found.span(1) for found in _TEXT_COMMAND.finditer(simple)]
    for start, end in words:
        if _same_reading(read_formula(f"{simple[:start]}q{simple[start:]}"), parsed):
            return f"without its {simple[start:end].strip()!r}"
    for found in _SYMBOL.finditer(simple):
        part, (start, end) = found.group(), found.span()
        if _MARKUP.fullmatch(part) or any(a < start < b for a, b in words):
            continue
        changed = simple[:start] + _other(part) + simple[end:]
        if _same_reading(read_formula(changed), parsed):
            return f"without its {part!r}"
    return None


def _other(part: str) -> str:
    """A replacement of the same kind for a part of a formula, with another value."""
    if part.isdigit():
        return part + "7" if part.strip("0") or len(part) == 1 else "7" * len(part)
    if part.isalpha():
        return "q" if part != "q" else "w"
    return " "


def _same_reading(changed: Any, parsed: Any) -> bool:
    return changed is not None and type(changed) is type(parsed) and changed == parsed


def _stranger(simple: str, parsed: Any) -> str | None:
    """A variable that was read but is not in the formula, such as a letter of a command that was split up."""
    letters = re.sub(r"\\[A-Za-z]+", " ", _TEXT_COMMAND.sub(" ", simple)).lower()
    named = re.sub(r"\s", "", simple.lower())
    for symbol in sorted(getattr(parsed, "free_symbols", ()), key=str):
        name = re.sub(r"[{}\\]", "", symbol.name.lower())
        if len(name) == 1 and name not in letters and f"{{{name}}}" not in named and f"({name})" not in named:
            return symbol.name
    return None
