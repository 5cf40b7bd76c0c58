"""`exact` and `regex`: facts, recognized by the words of a text."""

import re
import unicodedata
from typing import Any

from adaptive_samplers.labels.verifiers.regex_examples import example_of
from adaptive_samplers.labels.verifiers.registry import Verdict, verifier


def _pattern(ground_truth: str | dict[str, Any]) -> tuple[str, bool]:
    """The pattern of a ground truth, and whether it must match the whole answer."""
    if not isinstance(ground_truth, str | dict):
        raise ValueError(f'{ground_truth!r} is no pattern; write a text or {{"pattern": ..., "fullmatch": true}}')
    options = {"pattern": ground_truth} if isinstance(ground_truth, str) else dict(ground_truth)
    pattern = options.pop("pattern")
    match_whole = options.pop("fullmatch", False)
    if options:
        raise ValueError(f"unknown option {sorted(options)[0]!r} beside `pattern` and `fullmatch`")
    return pattern, match_whole


def _check_pattern(ground_truth: Any) -> None:
    pattern, match_whole = _pattern(ground_truth)
    if not pattern:
        raise ValueError("the empty pattern is found in every answer")
    try:
        verify_pattern("An answer of 1 word.", ground_truth)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    if example_of(pattern, match_whole) is None:
        raise ValueError(
            f"no text matches the pattern {pattern!r}; signs such as $ ^ . ( + need a backslash before them"
        )


@verifier("regex", check=_check_pattern)
def verify_pattern(answer: str, ground_truth: str | dict[str, Any]) -> Verdict:
    """Score 1 if the regular expression is found in the answer, ignoring case.

    The ground truth is the pattern, or `{"pattern": ..., "fullmatch": true}` to match the whole answer, without the
    spaces around it.
    """
    pattern, match_whole = _pattern(ground_truth)
    search = re.fullmatch if match_whole else re.search
    match = search(pattern, answer.strip(), flags=re.IGNORECASE)
    return float(match is not None), f"matched {match.group()!r}" if match else f"no match for {pattern!r}"


_OUTER = " .,;:!?\"'“”‘’`*"
_BRACKETS = "()[]"


def normalized(text: str) -> str:
    """`text` without case, extra spaces and outer punctuation.

    A single bracket or brackets around all of it are outer punctuation; those of f(x) or [0, 1) and .5's point are not.
    """
    words = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    while True:
        shorter = words.rstrip(_OUTER).lstrip(_OUTER.replace(".", ""))
        if shorter.startswith(".") and not shorter[1:2].isdigit():
            shorter = shorter[1:]
        inner = [character for character in shorter if character in _BRACKETS]
        if len(inner) == 1 or (shorter[:1] + shorter[-1:] in ("()", "[]") and len(inner) == 2):
            shorter = shorter.strip(_BRACKETS)
        if shorter == words:
            return words
        words = shorter


def final_words(answer: str, ground_truth: object = None) -> str | None:
    """The whole answer, as `exact` compares it; None if nothing is left."""
    return normalized(answer) or None


def _accepted(ground_truth: Any) -> list[str]:
    accepted = [ground_truth] if isinstance(ground_truth, str) else ground_truth
    if not isinstance(accepted, list) or not all(isinstance(text, str) for text in accepted):
        raise ValueError(f"{ground_truth!r} is neither a text nor a list of texts")
    if not accepted:
        raise ValueError("the list of accepted answers is empty")
    return accepted


def _check_words(ground_truth: Any) -> None:
    """Raise if normalization changes the meaning of a ground truth, as of 5!, which would be compared as 5."""
    for text in _accepted(ground_truth):
        compared = normalized(text)
        if not compared:
            raise ValueError(f"nothing of {text!r} would be compared")
        words = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
        before, after = words.split(compared, 1) if compared in words else ("", "")
        if set(before + after) & set("()[]*") or (after.startswith("!") and compared[-1].isdigit()):
            raise ValueError(f"of {text!r} only {compared!r} would be compared; write that, or take `math` or `regex`")


@verifier("exact", check=_check_words, final_answer=final_words, own_words=_accepted)
def verify_exact(answer: str, ground_truth: str | list[str]) -> Verdict:
    """Score 1 if the answer is (one of) the ground truth, apart from case, spaces and outer punctuation."""
    found = normalized(answer)
    return float(found in {normalized(text) for text in _accepted(ground_truth)}), f"found {found!r}"
