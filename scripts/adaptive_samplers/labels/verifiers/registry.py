"""Verifiers by name: those that come with the project, and the user's own files."""

from __future__ import annotations

import difflib
import importlib.util
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.verifiers.final_text import without_thinking
from adaptive_samplers.labels.verifiers.sandbox import Limits

if TYPE_CHECKING:
    from adaptive_samplers.config.model.labels import Correctness

# A verifier's result for an answer: a score from 0 (wrong) to 1 (right), and a detail for readers.
Verdict = tuple[float, str]
# The answer that a text gives, in a form that equivalent answers share; None if it gives none. The ground truth
# determines only that form.
FinalAnswer = Callable[[str, Any], str | None]
# Answers that restate a ground truth, each of which must be right.
OwnWords = Callable[[Any], list[str]]


def _nothing() -> None:
    """Nothing to load or require."""


def _no_words(ground_truth: Any) -> list[str]:
    """For verifiers whose ground truths describe an answer without stating it."""
    return []


@dataclass(frozen=True)
class Verifier:
    """A verifier, called with an answer's text and the prompt's ground truth. An empty answer scores 0.

    Text in `<think>` is not part of an answer.

    Attributes
    ----------
    function
        Takes a nonempty text and the ground truth, and returns a verdict; raises if it cannot decide.
    check
        Takes a ground truth, and raises if the function could not use it.
    load
        Imports what the function needs, so that loading does not count towards the first answer's time.
    require
        Raises a UserError if this verifier cannot work on this machine.
    final_answer
        Takes a text and the ground truth, and returns the answer that the text gives (see `FinalAnswer`). None if the
        verifier judges more than an answer within the text, so that there is nothing to vote on.
    own_words
        Takes a ground truth that passed the check, and returns answers that restate it.
    sees_thinking
        Whether the function also gets the text in `<think>`.
    """

    name: str
    function: Callable[[str, Any], Verdict]
    check: Callable[[Any], object]
    load: Callable[[], object] = _nothing
    require: Callable[[], object] = _nothing
    final_answer: FinalAnswer | None = None
    own_words: OwnWords = _no_words
    sees_thinking: bool = False

    def __call__(self, answer: str, ground_truth: Any) -> Verdict:
        """Return the score and detail of an answer.

        Raises
        ------
        Exception
            Whatever the function raises; the answer then has no verdict.
        """
        said = self.said(answer)
        if not said.strip():
            return 0.0, "empty answer" if not answer.strip() else "the answer never ends its thinking"
        return self.function(said, ground_truth)

    def said(self, answer: str) -> str:
        """The part of a text that is the answer."""
        return answer if self.sees_thinking else without_thinking(answer)

    def accept(self, ground_truth: Any) -> None:
        """Raise unless the verifier can use a ground truth and scores its own words as right.

        Raises
        ------
        Exception
            Whatever the check raises, or a ValueError that says what was read.
        """
        self.check(ground_truth)
        for words in self.own_words(ground_truth):
            score, detail = self(words, ground_truth)
            if score < 1:
                raise ValueError(f"the answer {words!r}, which says the same, scores {score:g}: {detail}")


@dataclass(frozen=True)
class Verification:
    """How answers are verified, as given in `labels.correctness`.

    Attributes
    ----------
    own : names and files of the user's verifiers.
    timeout : seconds per answer.
    memory_mb : megabytes of memory per verifying process.
    code : sandbox limits for answers' code, for the verifier `code`.
    """

    own: tuple[tuple[str, str], ...] = ()
    timeout: float = 10.0
    memory_mb: int = 4096
    code: Limits = field(default_factory=Limits)

    @classmethod
    def from_settings(cls, settings: Correctness) -> Verification:
        """Take the settings from the config's section `labels.correctness`."""
        return cls(
            own=tuple((own.name, own.path) for own in settings.verifiers),
            timeout=settings.timeout,
            memory_mb=settings.memory_mb,
            code=Limits(**settings.code.model_dump()),
        )

    def names(self) -> list[str]:
        """All names that a prompt may use."""
        return [*VERIFIERS, *(name for name, _ in self.own)]

    def verifiers(self) -> dict[str, Verifier]:
        """Return all verifiers by name; executes the user's files.

        Raises
        ------
        UserError
            If a file cannot be loaded, or defines no function `verify`.
        """
        from adaptive_samplers.labels.verifiers.code import verify_code

        limited = {"code": replace(VERIFIERS["code"], function=partial(verify_code, limits=self.code))}
        return VERIFIERS | limited | {name: _own_verifier(name, Path(path)) for name, path in self.own}

    def require(self, names: Iterable[str]) -> None:
        """Refuse names that no verifier has, and verifiers that cannot work on this machine.

        Raises
        ------
        UserError
            Naming the verifier and what to do.
        """
        for name in sorted(set(names)):
            if name not in self.names():
                raise UserError(f"unknown verifier '{name}'; {nearest(name, self.names())}")
            if name in VERIFIERS:
                VERIFIERS[name].require()

    def seconds(self, name: str) -> float:
        """The seconds that a verifier may take per answer, above the sandbox's own limit for `code`."""
        return max(self.timeout, self.code.seconds + 10) if name == "code" else self.timeout


VERIFIERS: dict[str, Verifier] = {}


def verifier(
    name: str,
    check: Callable[[Any], object] | None = None,
    load: Callable[[], object] = _nothing,
    require: Callable[[], object] = _nothing,
    final_answer: FinalAnswer | None = None,
    own_words: OwnWords = _no_words,
) -> Callable[[Callable[[str, Any], Verdict]], Callable[[str, Any], Verdict]]:
    """Register a function as a `Verifier`. Without `check`, a ground truth is tested by verifying a sample answer."""

    def register(function: Callable[[str, Any], Verdict]) -> Callable[[str, Any], Verdict]:
        VERIFIERS[name] = Verifier(
            name, function, check or partial(_try, function), load, require, final_answer, own_words
        )
        return function

    return register


def _try(function: Callable[[str, Any], Verdict], ground_truth: Any) -> None:
    function("An answer of 1 word.", ground_truth)


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest a similar name (`did you mean 'math'?`), or list all known ones."""
    known = [*known]
    found = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{found[0]}'?" if found else f"known are {', '.join(sorted(known))}"


def _own_verifier(name: str, path: Path) -> Verifier:
    """The verifier in a user's file, whose `verify(text, ground_truth)` returns a score or a score and a detail."""
    if not path.is_file():
        raise UserError(
            f"{path}: there is no such file, for the verifier '{name}'; correct labels.correctness.verifiers"
        )
    spec = importlib.util.spec_from_file_location(f"own_verifier_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(
            f"{path}: the verifier '{name}' cannot be loaded ({type(error).__name__}: {error}); correct the file"
        ) from error
    verify = getattr(module, "verify", None)
    if not callable(verify):
        raise UserError(f"{path}: defines no function verify(text, ground_truth), for the verifier '{name}'; add it")
    function = partial(_own_verdict, verify)
    return Verifier(
        name,
        function,
        partial(_try, function),
        final_answer=getattr(module, "final_answer", None),
        own_words=getattr(module, "own_words", _no_words),
        sees_thinking=True,
    )


def _own_verdict(verify: Callable[[str, Any], Any], answer: str, ground_truth: Any) -> Verdict:
    verdict = verify(answer, ground_truth)
    score, detail = verdict if isinstance(verdict, tuple) and len(verdict) == 2 else (verdict, "")
    if not isinstance(score, int | float) or not math.isfinite(score) or not 0 <= score <= 1:
        raise ValueError(f"verify returned {verdict!r}, neither a score of 0 to 1 nor a pair of one and a detail")
    return float(score), str(detail) or f"score {float(score):g}"
