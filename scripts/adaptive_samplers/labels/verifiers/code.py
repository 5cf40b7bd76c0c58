"""`code`: run an answer's program against tests, in a sandbox.

There are three kinds of tests. For `cases` and `calls`, expected results never enter the sandbox: what the program
printed or its function returned is compared outside, so that no code can fake success. `tests` are Python code that
runs in the answer's interpreter. Their report is signed with a token that enters the sandbox together with them, after
the answer's definitions. An early exit or printed words therefore do not pass for success, but code that deliberately
rewrites the interpreter could.
"""

import json
import math
import re
import secrets
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import zip_longest
from typing import Any

from adaptive_samplers.labels.verifiers.answer_code import code_of
from adaptive_samplers.labels.verifiers.registry import Verdict, verifier
from adaptive_samplers.labels.verifiers.sandbox import (
    LONGEST_MESSAGE,
    Limits,
    Sandbox,
    TimeLimit,
    check_sandbox,
    error_in,
    run_program,
)

_FORMS = (
    'the ground truth must be {"tests": [code, ...]}, {"cases": [{"input": text, "output": text}, ...]} or '
    '{"function": name, "calls": [{"arguments": [...], "result": ...}, ...]}'
)
_END_OF_LINE = re.compile(r"\r\n|[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")  # as of str.splitlines
_SHOWN = 80


def _check(ground_truth: Any) -> None:
    """Raise unless the ground truth has one of the three forms; executes nothing."""
    match ground_truth:
        case {"tests": [*tests], **rest} if tests and not rest and all(isinstance(test, str) for test in tests):
            for number, test in enumerate(tests, start=1):
                compile(test, f"test {number}", "exec")
        case {"cases": [*cases], **rest} if cases and not rest:
            for case_ in cases:
                match case_:
                    case {"input": str(), "output": str(), **others} if not others:
                        pass
                    case _:
                        raise ValueError(_FORMS)
        case {"function": str(function), "calls": [*calls], **rest} if calls and not rest:
            if not function.isidentifier():
                raise ValueError(f"no code can define a function named {function!r}")
            for call in calls:
                match call:
                    case {"arguments": [*_], "result": result, **others} if not others:
                        if len(json.dumps(result)) > LONGEST_MESSAGE // 2:
                            raise ValueError(f"the ground truth has a result of more than {LONGEST_MESSAGE // 2} bytes")
                    case _:
                        raise ValueError(_FORMS)
        case _:
            raise ValueError(_FORMS)


@verifier("code", check=_check, require=check_sandbox)
def verify_code(answer: str, ground_truth: dict[str, Any], limits: Limits = Limits()) -> Verdict:  # noqa: B008
    """Score 1 if the answer's Python code passes every test within its limits, else 0.

    `answer_code.code_of` finds the code in the answer. The ground truth has one of three forms, each with at least one
    test:

    - `{"tests": [code, ...]}`: code such as `assert add(1, 2) == 3`, run in order after the answer's;
    - `{"cases": [{"input": text, "output": text}, ...]}`: the answer is a program, run once for each input. Spaces at
      the ends of lines and of the text are ignored;
    - `{"function": name, "calls": [{"arguments": [...], "result": ...}, ...]}`: calls of a function with JSON values.
      Floats are compared with a relative tolerance of 1e-9.

    Raises
    ------
    ValueError
        If the ground truth has none of these forms.
    SandboxError
        If the sandbox itself fails.
    """
    _check(ground_truth)
    code = code_of(answer, ground_truth)
    if not code.strip():
        return 0.0, "no code in the answer"
    deadline = time.monotonic() + limits.seconds
    try:
        if "tests" in ground_truth:
            return _tests(code, ground_truth["tests"], limits, deadline)
        if "cases" in ground_truth:
            return _cases(code, ground_truth["cases"], limits, deadline)
        return _calls(code, ground_truth["function"], ground_truth["calls"], limits, deadline)
    except TimeLimit:
        return 0.0, f"not done within {limits.seconds:g} s"
    except (MemoryError, RecursionError):
        return 0.0, "what it printed or returned is too large to be compared"


def _tests(code: str, tests: list[str], limits: Limits, deadline: float) -> Verdict:
    token = secrets.token_hex(16)
    with Sandbox({"kind": "tests", "code": code}, limits, deadline) as sandbox:
        ready = _message(sandbox)
        if "error" in ready:
            return 0.0, ready["error"]
        sandbox.send({"tests": tests, "token": token})
        report = _message(sandbox)
    if "error" in report:
        number = report.get("failed")
        place = f"test {number + 1}: " if number in range(len(tests)) else ""
        return 0.0, f"{place}{report['error']}"
    if report.get("token") != token:
        return 0.0, "the code's report of its tests is not signed"
    return 1.0, f"passed {len(tests)} tests"


def _cases(code: str, cases: list[dict[str, str]], limits: Limits, deadline: float) -> Verdict:
    for number, case in enumerate(cases, start=1):
        try:
            finished = run_program(code, case["input"], limits, deadline)
        except ValueError as error:
            return 0.0, f"case {number}: {error}"
        if finished.error or finished.status != 0:
            return 0.0, f"case {number}: {finished.error or f'exit status {finished.status}'}"
        if not _same_lines(finished.output, case["output"]):
            shown = finished.output[:_SHOWN]
            return 0.0, f"case {number}: printed {shown!r}, expected {case['output'][:_SHOWN]!r}"
    return 1.0, f"passed {len(cases)} cases"


def _calls(code: str, function: str, calls: list[dict[str, Any]], limits: Limits, deadline: float) -> Verdict:
    request = {"kind": "calls", "code": code, "function": function}
    with Sandbox(request, limits, deadline) as sandbox:
        ready = _message(sandbox)
        if "error" in ready:
            return 0.0, ready["error"]
        for number, call in enumerate(calls, start=1):
            sandbox.send({"arguments": call["arguments"]})
            reply = _message(sandbox)
            if "error" in reply:
                return 0.0, f"call {number}: {reply['error']}"
            if not _same(reply.get("result"), call["result"]):
                shown = repr(reply.get("result"))[:_SHOWN]
                return 0.0, f"call {number}: returned {shown}, expected {call['result']!r:.{_SHOWN}}"
    return 1.0, f"passed {len(calls)} calls"


def _message(sandbox: Sandbox) -> dict[str, Any]:
    """The next message of the harness. A silent end, or anything the harness would not send, becomes an error."""
    try:
        message = sandbox.receive()
    except ValueError:
        message = "no message"
    if message is None:
        return {"error": f"the code ended its process, with status {sandbox.status()}"}
    if not isinstance(message, dict):
        return {"error": "the code wrote to the harness"}
    error = error_in(message)
    return message if error is None else message | {"error": error}


def _same_lines(found: str, expected: str) -> bool:
    """Whether two texts have the same lines, apart from the spaces at their ends."""
    # Line by line, because a list of all printed lines could exhaust the memory.
    return all(line == other for line, other in zip_longest(_lines(found), _lines(expected)))


def _lines(text: str) -> Iterator[str]:
    text, start = text.rstrip(), 0
    for end in _END_OF_LINE.finditer(text):
        yield text[start : end.start()].rstrip()
        start = end.end()
    if text:
        yield text[start:]


def _same(found: Any, expected: Any) -> bool:
    """Whether two JSON values are equal. True is not 1; floats need only agree to a relative 1e-9."""
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    if isinstance(found, float) or isinstance(expected, float):
        if not isinstance(found, int | float) or not isinstance(expected, int | float):
            return False
        if abs(found) == math.inf or abs(expected) == math.inf or found != found or expected != expected:
            return repr(found) == repr(expected)
        # As fractions, because an integer may be too large for a float.
        first, second = Fraction(found), Fraction(expected)
        return abs(first - second) <= max(abs(first), abs(second)) / 10**9
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(_same, found, expected))
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_same(found[key], expected[key]) for key in found)
    return found == expected
