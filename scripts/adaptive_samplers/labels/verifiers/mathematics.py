"""`math`: equality of formulas and numbers, by math-verify.

Nothing here limits the time: the library's own limits use signals, which work in the main thread only and do not
interrupt arithmetic on huge numbers. `pool` verifies in processes that it kills when their time is over.
"""

from typing import Any

from adaptive_samplers.hashing import content_number
from adaptive_samplers.labels.verifiers.registry import Verdict, verifier

_DECIMALS = 6  # to which math-verify compares numbers


def _load() -> None:
    import math_verify

    # The first use compiles the parser's grammar.
    math_verify.verify(
        math_verify.parse("$1$", parsing_timeout=None),
        math_verify.parse("1", parsing_timeout=None),
        timeout_seconds=None,
    )


def final_formula(answer: str, ground_truth: object = None) -> str | None:
    """The last formula or number of an answer, in a form that equivalent ones share, to six decimals of numbers.

    Of a formula with symbols it is its values at two fixed points, which formulas that are not equivalent share only
    by a coincidence of six decimals: linear work, where math-verify would have to compare every pair.
    """
    from math_verify import parse

    found = parse(answer, parsing_timeout=None)
    return _canonical(found[0]) if found else None


def _canonical(formula: Any) -> str:
    import sympy
    from latex2sympy2_extended.sets import FiniteSet

    if isinstance(formula, str):
        return " ".join(formula.split())
    if isinstance(formula, sympy.Eq) and isinstance(formula.lhs, sympy.Symbol):
        return _canonical(formula.rhs)  # "x = 5" gives 5
    if isinstance(formula, sympy.StrictGreaterThan | sympy.GreaterThan):
        formula = formula.reversed
    if isinstance(formula, sympy.MatrixBase):
        return f"Matrix{formula.shape}({', '.join(map(_canonical, formula))})"
    if isinstance(formula, sympy.Symbol):
        return str(formula)
    if isinstance(formula, sympy.Expr):
        return _value(formula)
    parts = [_canonical(part) for part in formula.args]
    if isinstance(formula, FiniteSet | sympy.FiniteSet):
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
    """The value at one of two points that follow from the symbols' names, as text; None if there is none."""
    import sympy

    point = {
        symbol: sympy.Rational(content_number([symbol.name, draw]) % 100_003 + 50_000, 100_003) for symbol in symbols
    }
    value = sympy.N(formula.doit().subs(point), 30)
    if not value.is_number or not value.is_finite:
        return None
    texts = [f"{sympy.Float(part, 30):.{_DECIMALS}f}".rstrip("0").rstrip(".") for part in value.as_real_imag()]
    real, imaginary = ("0" if text == "-0" else text for text in texts)
    return real if imaginary == "0" else f"{real} + {imaginary}i"


@verifier("math", load=_load, final_answer=final_formula)
def verify_mathematics(answer: str, ground_truth: str | int | float) -> Verdict:
    """1 if the answer's last formula or number equals the ground truth mathematically, by math-verify."""
    from math_verify import parse, verify

    expected = parse(str(ground_truth), parsing_timeout=None, raise_on_error=True)
    if not expected:
        expected = parse(f"${ground_truth}$", parsing_timeout=None, raise_on_error=True)
    if not expected:
        raise ValueError(f"the ground truth {ground_truth!r} holds no formula")
    found = parse(answer, parsing_timeout=None)
    if not found:
        return 0.0, "no formula in the answer"
    right = verify(expected, found, timeout_seconds=None)
    return float(right), f"found {found[-1]}, expected {expected[-1]}"
