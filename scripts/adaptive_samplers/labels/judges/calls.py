"""Calls of a judge's model: each is made once, and kept as soon as it is answered.

A call is what the model reads, and its result is a few numbers. A `Scorer` reads it: a model in this process or a
server.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import islice
from typing import Any, NamedTuple, Protocol, Self

from adaptive_samplers.hashing import content_id
from adaptive_samplers.partfile import PartFile
from adaptive_samplers.progress import progress

# Calls prepared at once: enough to keep a server busy, few enough to hold their token ids in memory.
BLOCK = 4096


class Continuation(NamedTuple):
    """Token ids of which those from index `start` on are scored, given all before them; `start` is at least 1."""

    token_ids: tuple[int, ...]
    start: int


# Token ids to be read to their end, token ids of which some are scored, or text for a model that tokenizes elsewhere.
Question = Sequence[int] | Continuation | str


class Call(NamedTuple):
    """What the model is to read, or why the call cannot be made."""

    question: Question = ()
    error: str | None = None


class Result(NamedTuple):
    """The numbers that came back, or why there are none."""

    values: tuple[float, ...] = ()
    error: str | None = None


class Scorer(Protocol):
    """Reads questions, all of one kind."""

    def score(self, questions: Sequence[Any]) -> Iterator[tuple[int, Result]]:
        """Yield the index of each question with its result, in any order."""
        ...


class Calls:
    """Answers calls, each distinct one once; a killed job finds its answers in the part file.

    Failures are not kept: they are worth retrying. A context manager; the scorer is opened when it is first needed.

    Parameters
    ----------
    open_scorer : callable
        Provides the scorer while it is needed: a context manager that yields a `Scorer`.
    part : PartFile
        Open; its fingerprint covers the model and everything that changes its answers.
    max_length : int or None
        Longer questions (in tokens) are not sent.
    """

    def __init__(
        self, open_scorer: Callable[[], AbstractContextManager[Scorer]], part: PartFile, max_length: int | None
    ) -> None:
        self.open_scorer = open_scorer
        self.part = part
        self.max_length = max_length
        self._scorer: Scorer | None = None
        self._stack = ExitStack()
        self._made = 0
        self._known = {row["call"]: tuple(row["values"]) for row in part.rows()}
        self._found = len(self._known)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: Any) -> None:
        self._stack.close()

    def measured(self) -> dict[str, int]:
        """`calls_made` of the model, and `calls_found` in the part file of a killed job."""
        return {"calls_made": self._made, "calls_found": self._found}

    def answer(self, calls: Iterable[Call], total: int, description: str) -> Iterator[Result]:
        """The results of `total` calls, in their order."""
        left = iter(calls)
        with progress(total=total, description=description, unit=" calls") as bar:
            while block := list(islice(left, BLOCK)):
                results = self._answer_block(block)
                bar.update(len(results))
                yield from results

    def _answer_block(self, calls: Sequence[Call]) -> list[Result]:
        names = [_name(call.question) for call in calls]
        failed: dict[str, str] = {}
        new: dict[str, Question] = {}
        for name, call in zip(names, calls, strict=True):
            if call.error is None and name not in self._known:
                if self.max_length is not None and _length(call.question) > self.max_length:
                    failed[name] = f"longer than {self.max_length} tokens"
                else:
                    new[name] = call.question
        waiting = list(new)
        for place, result in self._score(list(new.values())):
            name = waiting[place]
            self._made += 1
            if result.error is not None:
                failed[name] = result.error
            elif not all(map(math.isfinite, result.values)):
                failed[name] = "the model's answer is not a finite number"
            else:
                self._known[name] = result.values
                self.part.append({"call": name, "values": result.values})
        return [self._result(name, call, failed) for name, call in zip(names, calls, strict=True)]

    def _score(self, questions: Sequence[Question]) -> Iterator[tuple[int, Result]]:
        if not questions:
            return
        if self._scorer is None:
            self._scorer = self._stack.enter_context(self.open_scorer())
        yield from self._scorer.score(questions)

    def _result(self, name: str, call: Call, failed: dict[str, str]) -> Result:
        if call.error is not None:
            return Result(error=call.error)
        if name in self._known:
            return Result(self._known[name])
        return Result(error=failed.get(name, "the engine gave no answer"))


def _name(question: Question) -> str:
    return content_id(question if isinstance(question, str) else list(question))


def _length(question: Question) -> int:
    return len(question.token_ids if isinstance(question, Continuation) else question)
