"""`numeric`: the number that an answer gives, as in GSM8K (Cobbe et al. 2021, arXiv 2110.14168)."""

import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

from adaptive_samplers.labels.verifiers.final_text import last_box, solution, statement
from adaptive_samplers.labels.verifiers.registry import Verdict, verifier

_PLAIN = r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\d.])\.\d+)"
_EXPONENT = r"\^\s?(?:\{\s?(?P<%s>[-+]?\d+)\s?\}|(?P<%s>[-+]?\d+))"
# A number in any common notation, after `_simplified`. The longest notation comes first.
_NUMBER = re.compile(
    rf"""
    (?P<sign>(?<![\w.)}}])[-+](?:(?=[\d.$€£\\])|(?<==[ ][-+])[ ]|(?<==[-+])[ ]))?
    (?:[$€£]\s?)?
    (?:
        (?:(?P<mixed>\d+)\s?)?\\frac\s?\{{\s?(?P<over>-?{_PLAIN})\s?\}}\s?\{{\s?(?P<under>-?{_PLAIN})\s?\}}
      | (?:(?P<whole>\d+)[ ])?(?P<numerator>{_PLAIN})[ ]?/[ ]?(?P<denominator>{_PLAIN})
      | (?P<mantissa>{_PLAIN})[ ]?\*[ ]?10{_EXPONENT % ("ten_braced", "ten_bare")}
      | (?P<coefficient>{_PLAIN})[eE](?P<e>[-+]?\d+)(?!\w)
      | (?P<base>\d+){_EXPONENT % ("power_braced", "power_bare")}
      | (?P<plain>{_PLAIN})
    )
    """,
    re.VERBOSE,
)
_LARGEST_EXPONENT = 1_000
_LONGEST = 1_000  # characters

# LaTeX commands that may stand next to a number without making it part of a larger expression.
_APART = (
    "text|textbf|textit|textrm|mathrm|mathbf|mbox|boxed|fbox|approx|implies|to|leq?|geq?|neq?|equiv|therefore|"
    "quad|qquad|left|right|begin|end|[lc]?dots|Rightarrow|rightarrow|longrightarrow|because"
)
# Text after or before a number that makes it part of an expression.
_CONTINUES = re.compile(
    rf"[.,:](?=\d)|[ \t]*[-+*/^][ \t]*(?=[\d.(\\$])|\((?=\d)|[ \t]*\\(?!(?:{_APART})\b)[a-zA-Z]+|[_^{{]|"
    r"[ \t]+(?:or|to)[ \t]+[-$]?\d"
)
_CONTINUED = re.compile(
    rf"(?:\d[.,:]|[\d)}}]\ ?[-+*/^]\ ?|(?<![A-Za-z])[A-Za-z]\ ?[-+*/]\ ?|\\(?!(?:{_APART})\b)[a-zA-Z]+\s?\{{?|"
    r"\d\ (?:or|to)\ )$"
)
# Text before a sign that makes it a subtraction or addition.
_SUBTRACTED = re.compile(r"(?:[\d)}]|(?<![A-Za-z])[A-Za-z]) ?$")
# Digits in a name or unit: H2, cm^2, x_1. A currency before an amount is not such a name.
_IN_A_NAME = re.compile(r"(?:[A-Za-z]|[A-Za-z}][\^_]\{?)$")
_CURRENCY = re.compile(r"(?<![A-Za-z])(?:[A-Z]{3}|Rs\.?)$")

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SIMPLER = [
    (r"[\u2212\u2013\ufe63\uff0d]", "-"),
    (r"\\!|\\left\b|\\right\b|\\displaystyle\b", ""),
    (r"\{,\}", ","),
    # Spaces as thousands separators.
    (r"(?<=\d)(?:\\[,;: ]|[\u00a0\u2007\u2009\u202f\u2005\u2006~])(?=\d{3}(?!\d))", ","),
    (r"[\u00a0\u2007\u2009\u202f]|\\[,;: ]", " "),
    (r"\\\$", "$"),
    (r"\\%", "%"),
    (r"\^\s?\{?\s?\\circ\s?\}?|°", ""),
    (r"\\[dtc]frac", r"\\frac"),
    (r"\\frac\s?(\d)\s?(\d)", r"\\frac{\1}{\2}"),
    (r"(?<=\d)\*\*(?=-?\d)", "^"),
    (r"\*\*|__", ""),  # bold
    (r"\\times\b|\\cdot\b|[×·⋅]", "*"),
    (r"\\div\b|[÷⁄]", "/"),
    (r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda found: f"^{found.group().translate(_SUPERSCRIPTS)}"),
]
_SIMPLER_PATTERNS = [(re.compile(pattern), replacement) for pattern, replacement in _SIMPLER]


def _check(ground_truth: Any) -> None:
    expected_number(ground_truth)


def final_number(answer: str, ground_truth: object = None) -> str | None:
    """The number that an answer gives, as text, the same for equal numbers; None if it gives none."""
    number = answer_number(answer)
    return None if number is None else number_text(number)


def _own_words(ground_truth: Any) -> list[str]:
    text = solution(str(ground_truth))
    return [str(ground_truth), f"The answer is {text}.", f"So we get\n#### {text}", f"\\boxed{{{text}}}"]


@verifier("numeric", check=_check, final_answer=final_number, own_words=_own_words)
def verify_number(answer: str, ground_truth: int | float | str) -> Verdict:
    """Score 1 if the answer's number equals the ground truth exactly, as fractions.

    The answer's number is the one in its last box. Without a box it is the first number after the last `####` or
    "answer is" (after the last equals sign in that statement), and otherwise the last number of the text. Parts of
    larger expressions do not count: "3 + 4", "5-7" and "10:30" hold no number; "1/2", "10^6", "1.5e3" and "3 1/2" do.

    The ground truth is a number, a number as text, or a solution that ends with one, in a box or as in GSM8K
    (`#### 72`). It must be a number as a whole, written by the same rules.
    """
    expected = expected_number(ground_truth)
    found = answer_number(answer)
    if found is None:
        return 0.0, "no number in the answer"
    return float(found == expected), f"found {number_text(found)}, expected {number_text(expected)}"


def expected_number(ground_truth: Any) -> Fraction:
    """The number that a ground truth states; ValueError unless it states exactly one."""
    if isinstance(ground_truth, bool) or not isinstance(ground_truth, int | float | str):
        raise ValueError(f"{ground_truth!r} is not a number")
    text = solution(ground_truth) if isinstance(ground_truth, str) else repr(ground_truth)
    number = whole_number_of(text)
    if number is None:
        raise ValueError(f"{text!r} is not a number")
    return number


def whole_number_of(text: str) -> Fraction | None:
    """The number that makes up a whole text; None if the text is anything else."""
    simple = _simplified(text).strip()
    if simple.startswith("$") and simple.endswith("$") and len(simple) > 2:
        simple = simple.strip("$").strip()
    found = _NUMBER.fullmatch(simple)
    return None if found is None else _value(found)


def answer_number(answer: str) -> Fraction | None:
    """The number that an answer gives, if it has any."""
    box = last_box(answer)
    stated = statement(answer) if box is None else box
    if stated is not None:
        # "The answer is 3 + 4 = 7": the result stands after the equals sign.
        numbers = _numbers(stated.rsplit("=", 1)[-1])
        if box is not None:
            return numbers[0] if len(numbers) == 1 else None
        if numbers:
            return numbers[0]
    numbers = _numbers(answer)
    return numbers[-1] if numbers else None


def _numbers(text: str) -> list[Fraction | None]:
    """The numbers in a text, in order; None for each that is part of a larger expression."""
    simple = _simplified(text)
    numbers = []
    for found in _NUMBER.finditer(simple):
        before = simple[: found.start()]
        if _IN_A_NAME.search(before[-3:]) and not _CURRENCY.search(before[-4:]) and not _CONTINUED.search(before[-20:]):
            continue
        is_part = _CONTINUED.search(before[-20:]) or _CONTINUES.match(simple, found.end())
        is_part = is_part or (found["sign"] and _SUBTRACTED.search(before[-3:]))
        numbers.append(None if is_part else _value(found))
    return numbers


def _simplified(text: str) -> str:
    """A text in which every notation for numbers is reduced to one spelling."""
    for pattern, replacement in _SIMPLER_PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def _value(found: re.Match[str]) -> Fraction | None:
    """The value of a match of `_NUMBER`; None for a division by zero or an implausibly large number."""
    if len(found.group()) > _LONGEST:
        return None
    part = found.groupdict()
    if part["under"] or part["denominator"]:
        top, bottom = (_plain(part["over"] or part["numerator"]), _plain(part["under"] or part["denominator"]))
        if not bottom:
            return None
        value = int(part["mixed"] or part["whole"] or 0) + top / bottom
    elif part["plain"]:
        value = _plain(part["plain"])
    else:
        base = _plain(part["base"] or "10")
        exponents = ("ten_braced", "ten_bare", "e", "power_braced", "power_bare")
        exponent = int(next(part[name] for name in exponents if part[name]))
        if abs(exponent) > _LARGEST_EXPONENT or (base > 10 and abs(exponent) > 100) or (base == 0 and exponent < 0):
            return None
        value = _plain(part["mantissa"] or part["coefficient"] or "1") * base**exponent
    return -value if (part["sign"] or "").startswith("-") else value


def _plain(digits: str) -> Fraction:
    return Fraction(Decimal(digits.replace(",", "")))


def number_text(number: Fraction) -> str:
    """A number as text, the same for equal numbers: a decimal if it terminates, otherwise a fraction."""
    twos_and_fives = number.denominator
    for prime in (2, 5):
        while twos_and_fives % prime == 0:
            twos_and_fives //= prime
    if twos_and_fives != 1:
        return str(number)
    if number.denominator == 1:
        return str(number.numerator)
    places = number.denominator.bit_length()  # a denominator 2^a 5^b has at most that many decimals
    scaled = number * 10**places
    digits = str(abs(scaled.numerator // scaled.denominator)).rjust(places + 1, "0")
    return f"{'-' if number < 0 else ''}{digits[:-places]}.{digits[-places:].rstrip('0')}"
