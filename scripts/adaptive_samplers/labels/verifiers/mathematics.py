"""`math`: equality of formulas and numbers, by math-verify.

This module sets no time limit. math-verify's own limits use signals, which work only in the main thread and do not
interrupt arithmetic on huge numbers. `processes` verifies in processes that it kills when their time is over.
"""

import math
from typing import Any

from adaptive_samplers.hashing import content_number
from adaptive_samplers.labels.verifiers.final_text import solution
from adaptive_samplers.labels.verifiers.formulas import answer_formula, read_formula, unread_part
from adaptive_samplers.labels.verifiers.registry import Verdict, verifier

_DECIMALS = 6  # compared decimals of numbers
_SIGNIFICANT = 5  # compared digits of small numbers
_MOST_DECIMALS = 300


def _load() -> None:
    import math_verify

    # The first use compiles the parser's grammar.
    math_verify.verify(read_formula("1"), read_formula("2x"), timeout_seconds=None)


def _check(ground_truth: Any) -> None:
    """Raise unless the whole ground truth can be read."""
    formula = _written(ground_truth)
    parsed = read_formula(formula)
    if parsed is None:
        raise ValueError(f"{formula!r} holds no formula that can be read; `exact` compares words")
    if (problem := unread_part(formula, parsed)) is not None:
        raise ValueError(f"{formula!r} is read as {parsed}, {problem}")


def _own_words(ground_truth: Any) -> list[str]:
    formula = _written(ground_truth)
    return [f"\\boxed{{{formula}}}", f"The answer is ${formula}$."]


def _written(ground_truth: str | int | float) -> str:
    """The formula in a ground truth; of a solution, the one at its end."""
    if isinstance(ground_truth, bool) or not isinstance(ground_truth, str | int | float):
        raise ValueError(f"{ground_truth!r} is no formula")
    if isinstance(ground_truth, str):
        return solution(ground_truth).strip().strip("$").strip()
    if not math.isfinite(ground_truth):
        raise ValueError(f"{ground_truth!r} is no number")
    return repr(ground_truth)


def final_formula(answer: str, ground_truth: str | int | float) -> str | None:
    """The formula that an answer gives, in a form that equivalent formulas share; None if it gives none.

    Numbers are rounded to six decimals. A formula with symbols is represented by its values at two fixed points. Other
    formulas share them only by coincidence, and grouping answers is linear: math-verify would compare every pair.
    """
    expected = _expected(ground_truth)
    found = _given(answer, expected)
    return None if found is None else _canonical(_unnamed(found, expected))


def _unnamed(found: Any, expected: Any) -> Any:
    """The right-hand side of a formula such as "x = 5", unless the ground truth is for another variable."""
    import sympy

    def named(formula: Any) -> bool:
        return isinstance(formula, sympy.Eq) and isinstance(formula.lhs, sympy.Symbol)

    if named(found) and not (named(expected) and expected.lhs != found.lhs):
        return found.rhs
    if isinstance(found, sympy.FiniteSet) and all(map(named, found)) and len({part.lhs for part in found}) == 1:
        return sympy.FiniteSet(*(part.rhs for part in found))
    return found


def _expected(ground_truth: str | int | float) -> Any:
    parsed = read_formula(_written(ground_truth))
    if parsed is None:
        raise ValueError(f"the ground truth {ground_truth!r} holds no formula")
    return parsed


def _given(answer: str, expected: Any) -> Any:
    """The parsed formula of an answer. If the ground truth has no variables, letters after a number are its unit."""
    formula = answer_formula(answer)
    return None if formula is None else read_formula(formula, units_of_letters=not expected.free_symbols)


def _canonical(formula: Any) -> str:
    import sympy

    if isinstance(formula, str):
        return " ".join(formula.split())
    if isinstance(formula, sympy.StrictGreaterThan | sympy.GreaterThan):
        formula = formula.reversed
    if isinstance(formula, sympy.MatrixBase):
        return f"Matrix{formula.shape}({', '.join(map(_canonical, formula))})"
    if isinstance(formula, sympy.Symbol):
        return str(formula)
    if isinstance(formula, sympy.Expr):
        return _value(formula)
    parts = [_canonical(part) for part in formula.args]
    if isinstance(formula, sympy.FiniteSet):
        parts = sorted(set(parts))
    return f"{type(formula).__name__}({', '.join(parts)})" if parts else str(formula)


def _value(formula: Any) -> str:
    symbols = sorted(formula.free_symbols, key=str)
    values = [_at(formula, symbols, draw) for draw in ((0, 1) if symbols else (0,))]
    if None in values:
        return str(formula)
    if len(set(values)) == 1:
        return str(values[0])
    return f"{', '.join(map(str, values))} at {', '.join(map(str, symbols))}"


def _at(formula: Any, symbols: list[Any], draw: int) -> str | None:
    """The formula's value as text, at one of two points derived from its symbols' names; None if there is none."""
    import sympy

    point = {
        symbol: sympy.Rational(content_number([symbol.name, draw]) % 100_003 + 50_000, 100_003) for symbol in symbols
    }
    value = sympy.N(formula.doit().subs(point), 30)
    if not value.is_number or not value.is_finite:
        return None
    parts = [(part, _decimals(part)) for part in value.as_real_imag()]
    texts = [f"{sympy.Float(part, 30):.{decimals}f}".rstrip("0").rstrip(".") for part, decimals in parts]
    real, imaginary = ("0" if text == "-0" else text for text in texts)
    return real if imaginary == "0" else f"{real} + {imaginary}i"


def _decimals(number: Any) -> int:
    """How many decimals of a number are compared: more for small numbers, of which six would leave nothing."""
    import sympy

    size = abs(number.doit().evalf(15)) if getattr(number, "is_number", False) else None
    if size is None or not size.is_Float or size == 0 or size >= 1:
        return _DECIMALS
    return max(_DECIMALS, min(_SIGNIFICANT - 1 - math.floor(sympy.log(size, 10)), _MOST_DECIMALS))


@verifier("math", check=_check, load=_load, final_answer=final_formula, own_words=_own_words)
def verify_mathematics(answer: str, ground_truth: str | int | float) -> Verdict:
    """Score 1 if the answer's formula equals the ground truth mathematically, according to math-verify.

    The ground truth is a number, a LaTeX formula with or without delimiters, or a solution that ends with a box.
    `formulas.answer_formula` finds the formula in the answer. Units after numbers are not compared.
    """
    from math_verify import verify
    from sympy import Interval

    expected = _expected(ground_truth)
    found = _given(answer, expected)
    if found is None:
        return 0.0, "no formula in the answer"
    right = verify(
        expected,
        found,
        float_rounding=_decimals(expected),
        # (1, 2) may be a point rather than an interval; then it does not equal 1 < x < 2.
        allow_set_relation_comp=not (isinstance(expected, Interval) and expected.is_open),
        timeout_seconds=None,
    )
    return float(right), f"found {found}, expected {expected}"
