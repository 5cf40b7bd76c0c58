"""`math`: equality of formulas and numbers, by math-verify.

Nothing here limits the time: the library's own limits use signals, which work in the main thread only and do not
interrupt arithmetic on huge numbers. `pool` verifies in processes that it kills when their time is over.
"""

from adaptive_samplers.labels.verifiers.registry import Verdict, verifier


def _load() -> None:
    import math_verify

    # The first use compiles the parser's grammar.
    math_verify.verify(
        math_verify.parse("$1$", parsing_timeout=None),
        math_verify.parse("1", parsing_timeout=None),
        timeout_seconds=None,
    )


@verifier("math", load=_load)
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
