"""`exact` and `regex`: facts, told from a text by the words in it."""

import re
import unicodedata
from typing import Any

from adaptive_samplers.labels.verifiers.registry import Verdict, verifier


@verifier("regex")
def verify_pattern(answer: str, ground_truth: str | dict[str, Any]) -> Verdict:
    """1 if the regular expression is found in the answer, letter case ignored.

    The ground truth is the pattern, or `{"pattern": ..., "fullmatch": true}` to match the whole answer, less
    the spaces around it.
    """
    options = {"pattern": ground_truth} if isinstance(ground_truth, str) else dict(ground_truth)
    pattern = options.pop("pattern")
    match_whole = options.pop("fullmatch", False)
    if options:
        raise ValueError(f"unknown option {sorted(options)[0]!r} beside `pattern` and `fullmatch`")
    search = re.fullmatch if match_whole else re.search
    match = search(pattern, answer.strip(), flags=re.IGNORECASE)
    return float(match is not None), f"matched {match.group()!r}" if match else f"no match for {pattern!r}"


def normalized(text: str) -> str:
    """`text` without case, spaces and outer punctuation."""
    words = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return words.strip(" .,;:!?\"'“”‘’`*()[]")


def final_words(answer: str, ground_truth: object = None) -> str | None:
    """The whole answer, as `exact` compares it; None if nothing is left."""
    return normalized(answer) or None


@verifier("exact", final_answer=final_words)
def verify_exact(answer: str, ground_truth: str | list[str]) -> Verdict:
    """1 if the answer is the ground truth, or one of them, apart from case, spaces and outer punctuation."""
    accepted = [ground_truth] if isinstance(ground_truth, str) else list(ground_truth)
    if not accepted:
        raise ValueError("the list of accepted answers is empty")
    found = normalized(answer)
    return float(found in {normalized(text) for text in accepted}), f"found {found!r}"
