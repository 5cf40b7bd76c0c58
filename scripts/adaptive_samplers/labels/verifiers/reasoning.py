"""`reasoning_gym`: the scorers of reasoning-gym's procedural tasks (Stojanovski et al. 2025, arXiv 2505.24760)."""

import importlib.util
import re
from functools import cache
from typing import Any, TypeGuard

from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.verifiers.facts import normalized
from adaptive_samplers.labels.verifiers.final_text import statement
from adaptive_samplers.labels.verifiers.numeric import answer_number, final_number, number_text, whole_number_of
from adaptive_samplers.labels.verifiers.registry import Verdict, nearest, verifier

_TAGGED = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL)


def _require() -> None:
    if importlib.util.find_spec("reasoning_gym") is None:
        raise UserError(
            "the verifier 'reasoning_gym' needs the package reasoning-gym, which is not installed; "
            "`pip install reasoning-gym` in the environment of the rule label_correctness, or take its prompts out"
        )


def _load() -> None:
    import reasoning_gym  # noqa: F401


@cache
def _scorer(dataset: str) -> Any:
    from reasoning_gym.factory import DATASETS, get_score_answer_fn

    if dataset not in DATASETS:
        raise ValueError(f"reasoning-gym has no tasks '{dataset}'; {nearest(dataset, DATASETS)}")
    return get_score_answer_fn(dataset)


def _check(ground_truth: Any) -> None:
    """Raise unless the task's own answer is right: its scorer may need more than JSON preserves."""
    dataset, entry = _task(ground_truth)
    known = entry.get("answer")
    score = _scorer(dataset)(known, entry) if known is not None else None
    if score is not None and score < 1:
        raise ValueError(f"the entry's own answer {known!r} scores {score:g}, not 1")


def _own_words(ground_truth: Any) -> list[str]:
    known = _task(ground_truth)[1].get("answer")
    return [] if known is None else [f"<answer>{known}</answer>"]


def _task(ground_truth: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(ground_truth, dict) or set(ground_truth) != {"dataset", "entry"}:
        raise ValueError(
            'the ground truth must be {"dataset": ..., "entry": {...}}, an entry as reasoning-gym makes it'
        )
    return ground_truth["dataset"], ground_truth["entry"]


def final_answer(answer: str, ground_truth: dict[str, Any]) -> str | None:
    """The scored part of a text, the same for equal numbers; other answers are normalized as in `exact`."""
    expected = _task(ground_truth)[1].get("answer")
    given = _given(answer, expected)
    return (final_number(given) if _is_number(expected) else None) or normalized(given) or None


@verifier("reasoning_gym", check=_check, load=_load, require=_require, final_answer=final_answer, own_words=_own_words)
def verify_reasoning(answer: str, ground_truth: dict[str, Any]) -> Verdict:
    """The score, 0 to 1, that a task of reasoning-gym gives to the answer.

    The ground truth is `{"dataset": "basic_arithmetic", "entry": {"question": ..., "answer": ..., "metadata": ...}}`.
    The scored text is the content of the last `<answer>` tag. Without a tag it is the number that `numeric` finds, if
    the task's own answer is a number; otherwise the text after the last "answer is", or the whole answer.
    """
    dataset, entry = _task(ground_truth)
    given = _given(answer, entry.get("answer"))
    return float(_scorer(dataset)(given, entry)), f"found {given!r}, expected {entry.get('answer')!r}"


def _given(answer: str, expected: str | None) -> str:
    tagged = _TAGGED.findall(answer)
    if tagged:
        return tagged[-1].strip()
    if _is_number(expected):
        number = answer_number(answer)
        if number is not None:
            # Some scorers compare texts, so 0.5 must be written like the 0.50 that they expect.
            return expected if number == whole_number_of(expected) else number_text(number)
    stated = statement(answer)
    return (stated if stated else answer).strip().rstrip(".")


def _is_number(text: str | None) -> TypeGuard[str]:
    return isinstance(text, str) and whole_number_of(text) is not None
