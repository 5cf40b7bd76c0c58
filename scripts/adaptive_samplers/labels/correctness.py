"""Correctness of answers, checked by program: verifiers by name, and the table of their verdicts.

A verifier is a function of the answer's text and the prompt's ground truth; it returns a score from 0 (wrong)
to 1 (right) and a short detail for a reader. It never guesses: a ground truth that it cannot use, or a
failure of its own, raises, and `label_correctness` records the error in the answer's row instead of a score.

A new verifier is one function here with `@verifier("name")`; prompts name it in their `verifier` field.
"""

import json
import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from functools import wraps
from typing import Any

import pandas as pd

from adaptive_samplers.errors import UserError
from adaptive_samplers.tables import KEY

Verifier = Callable[[str, Any], tuple[float, str]]

VERIFIERS: dict[str, Verifier] = {}

# A number as people write it: sign, currency, thousands separated by commas, decimals. The sign counts only
# where it cannot be a hyphen or a minus between two numbers, so "7-2" holds 7 and 2.
_NUMBER = r"(?<![\w.])[-−+]?[$€£]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])[-−+]?\.\d+|\d+(?:\.\d+)?"
_ANSWER_MARK = re.compile(r"####|answer\s*(?:is|:|=)", re.IGNORECASE)
# Checkers of IFEval that fetch nltk data from the network when first used.
_ONLINE_INSTRUCTIONS = {"length_constraints:number_sentences", "change_case:capital_word_frequency"}
_SHOWN_CRASHES = 5


def verifier(name: str) -> Callable[[Verifier], Verifier]:
    """Register a function as the verifier `name`; an empty answer scores 0 without reaching it."""

    def register(function: Verifier) -> Verifier:
        @wraps(function)
        def verify(answer: str, ground_truth: Any) -> tuple[float, str]:
            if not answer.strip():
                return 0.0, "empty answer"
            return function(answer, ground_truth)

        VERIFIERS[name] = verify
        return verify

    return register


@verifier("numeric")
def verify_number(answer: str, ground_truth: int | float | str) -> tuple[float, str]:
    """1 if the number that the answer gives equals the ground truth exactly, in decimal.

    The answer's number is the first one after the last `####` or "answer is" (after its last equals sign, if
    it has any), or else the last number of the text.
    """
    expected = _decimal(str(ground_truth)) if isinstance(ground_truth, str) else Decimal(repr(ground_truth))
    found = _answer_number(answer)
    if found is None:
        return 0.0, "no number in the answer"
    return float(found == expected), f"found {found}, expected {expected}"


def _answer_number(answer: str) -> Decimal | None:
    marks = list(_ANSWER_MARK.finditer(answer))
    if marks:
        statement = re.split(r"\n|[.!?]\s", answer[marks[-1].end() :].lstrip(), maxsplit=1)[0]
        # "The answer is 3 + 4 = 7": the result stands after the equals sign.
        stated = re.search(_NUMBER, statement.rsplit("=", 1)[-1])
        if stated:
            return _decimal(stated.group())
    numbers = re.findall(_NUMBER, answer)
    return _decimal(numbers[-1]) if numbers else None


def _decimal(text: str) -> Decimal:
    if not re.fullmatch(r"\s*[-−+]?[$€£]?[\d,]*\.?\d+\s*", text):
        raise ValueError(f"'{text}' is not a number")
    return Decimal(re.sub(r"[,$€£\s]", "", text).replace("−", "-"))


@verifier("regex")
def verify_pattern(answer: str, ground_truth: str | dict[str, Any]) -> tuple[float, str]:
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


@verifier("exact")
def verify_exact(answer: str, ground_truth: str | list[str]) -> tuple[float, str]:
    """1 if the answer is the ground truth, or one of them, apart from case, spaces and outer punctuation."""
    accepted = [ground_truth] if isinstance(ground_truth, str) else list(ground_truth)
    if not accepted:
        raise ValueError("the list of accepted answers is empty")
    found = _normalized(answer)
    return float(found in {_normalized(text) for text in accepted}), f"found {found!r}"


def _normalized(text: str) -> str:
    words = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return words.strip(" .,;:!?\"'“”‘’`*()[]")


@verifier("math")
def verify_mathematics(answer: str, ground_truth: str | int | float) -> tuple[float, str]:
    """1 if the answer's last formula or number equals the ground truth mathematically, by math-verify."""
    from math_verify import parse, verify

    # The library's own time limits use signals, which work in the main thread only.
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


@verifier("instructions")
def verify_instructions(answer: str, ground_truth: list[dict[str, Any]]) -> tuple[float, str]:
    """The share of instructions that the answer follows, strictly, by IFEval's checkers (Zhou et al. 2023).

    The ground truth is a list of `{"instruction_id": ..., "kwargs": {...}}`. Every argument must be given,
    because the checkers would draw missing ones at random; those that need data from the network are refused.
    """
    import langdetect
    from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT

    # Language detection is random unless seeded; a verdict must not depend on the answers before it.
    langdetect.DetectorFactory.seed = 0
    if not isinstance(ground_truth, list) or not ground_truth:
        raise ValueError("the ground truth must be a list of instructions")
    checkers = {name: INSTRUCTION_DICT[name] for name in INSTRUCTION_DICT if name not in _ONLINE_INSTRUCTIONS}
    broken = [
        instruction["instruction_id"] for instruction in ground_truth if not _follows(answer, instruction, checkers)
    ]
    detail = f"not followed: {', '.join(broken)}" if broken else "all followed"
    return 1 - len(broken) / len(ground_truth), detail


def _follows(answer: str, instruction: dict[str, Any], checkers: dict[str, Any]) -> bool:
    name, given = instruction["instruction_id"], instruction.get("kwargs") or {}
    if name not in checkers:
        why = "needs data from the network" if name in _ONLINE_INSTRUCTIONS else "is unknown"
        raise ValueError(f"the instruction '{name}' {why}; usable are {', '.join(sorted(checkers))}")
    checker = checkers[name](name)
    given = {key: value for key, value in given.items() if value is not None}
    missing = [key for key in checker.get_instruction_args_keys() if key not in given]
    if missing:
        raise ValueError(f"the instruction '{name}' lacks its argument '{missing[0]}'")
    checker.build_description(**given)
    return bool(checker.check_following(answer.strip()))


def label_correctness(candidates: pd.DataFrame, prompts: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """Verify every answer by its prompt's verifier.

    Parameters
    ----------
    candidates, prompts
        The tables of those names; every candidate's prompt must be among the prompts.
    tolerance
        The share (0 to 1) of the answers to verify whose verdict may be missing because the verifier crashed.

    Returns
    -------
    The `correctness` table, in the order of the candidates. The score is null where the prompt has no
    verifier, where generation had failed (with its error) and where the verifier crashed (with the
    exception).

    Raises
    ------
    UserError
        If more verifiers crashed than `tolerance` allows, or a candidate's prompt is unknown.
    """
    checks = {
        row.prompt_id: (row.verifier, row.ground_truth)
        for row in prompts[["prompt_id", "verifier", "ground_truth"]].itertuples(index=False)
    }
    unknown = set(candidates["prompt_id"]) - set(checks)
    if unknown:
        raise UserError(
            f"candidates: prompt {sorted(unknown)[0]} ({len(unknown)} in all) is not in the prompts table; "
            "rebuild prompts.parquet and the candidates from the same config"
        )
    columns = [*KEY, "text", "finish_reason", "error"]
    rows = []
    crashes = []
    for candidate in candidates[columns].to_dict("records"):
        name, ground_truth = checks[candidate["prompt_id"]]
        row = {key: candidate[key] for key in KEY}
        row |= {"verifier": None, "score": None, "detail": None, "error": None}
        if not pd.isna(name):
            row["verifier"] = name
            if candidate["finish_reason"] == "error":
                reason = candidate["error"]
                row["error"] = "generation failed" if pd.isna(reason) else f"generation failed: {reason}"
            else:
                row["score"], row["detail"], row["error"] = _verify(candidate["text"], name, ground_truth)
                if row["error"] is not None:
                    crashes.append(row)
        rows.append(row)
    verified = sum(row["score"] is not None for row in rows) + len(crashes)
    if crashes and len(crashes) > tolerance * verified:
        raise UserError(_crash_message(crashes, verified, tolerance))
    return _table(rows)


def _verify(text: str, name: str, ground_truth: str | None) -> tuple[float | None, str | None, str | None]:
    """Score, detail and error of one answer; anything a verifier raises becomes the error."""
    if name not in VERIFIERS:
        return None, None, f"unknown verifier '{name}'; known are {', '.join(sorted(VERIFIERS))}"
    if pd.isna(ground_truth):
        return None, None, "the prompt has no ground truth"
    try:
        score, detail = VERIFIERS[name](text, json.loads(ground_truth))
    except Exception as error:
        return None, None, f"{type(error).__name__}: {error}"
    return score, detail, None


def _crash_message(crashes: list[dict[str, Any]], verified: int, tolerance: float) -> str:
    shown = [
        f"  prompt {row['prompt_id']}, heuristic {row['heuristic_id']}, seed {row['seed']}, "
        f"verifier {row['verifier']}: {row['error']}"
        for row in crashes[:_SHOWN_CRASHES]
    ]
    if len(crashes) > len(shown):
        shown.append(f"  and {len(crashes) - len(shown)} more")
    listing = "\n".join(shown)
    return (
        f"correctness: the verifier crashed on {len(crashes)} of {verified} answers, more than "
        f"labels.correctness.tolerance ({tolerance:g}) allows:\n{listing}\n"
        "Mend these prompts' ground truth or the verifier, or raise the tolerance."
    )


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=[*KEY, "verifier", "score", "detail", "error"])
    table["score"] = table["score"].astype("float64")
    return table
