"""The interface of every judge, and the judges that rate each answer alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy.special import expit

from adaptive_samplers.config.model import Config
from adaptive_samplers.labels.judges.calls import Calls
from adaptive_samplers.labels.tournament import Comparison

Key = tuple[str, str, int]  # prompt_id, heuristic_id, seed
# Of answers that did not fail: the rewards of those that could be rated, and why the others could not.
Rate = Callable[[pd.DataFrame], tuple[Mapping[Key, float], Mapping[Key, str]]]


class Judge(Protocol):
    """Says of two answers to the same prompt and seed which one is better.

    It is given the answers some prompts at a time, and knows those that it was given last: a run's do not fit in
    memory. A failed call is not an opinion: its outcome is nan, and its reason is kept.

    Attributes
    ----------
    rewards : mapping from the key of an answer that it knows to its scalar; empty if the judge only compares.
    failures : (what could not be judged, why) of these answers, in the order in which it happened.
    """

    rewards: Mapping[Key, float]
    failures: Sequence[tuple[str, str]]

    def read(self, candidates: pd.DataFrame) -> None:
        """Take these answers in place of those before: of the candidates, the columns that its declaration names."""
        ...

    def compare(self, comparisons: Sequence[Comparison]) -> np.ndarray:
        """P(the first answer is better) `[N]`; nan where the call failed."""
        ...

    def measured(self) -> dict[str, Any]:
        """What is known about the judge itself after all its work, for the report: at least its `kind`."""
        ...


@dataclass(frozen=True)
class Case:
    """What a judge is opened with.

    Attributes
    ----------
    config : the stage's slice of the config, and `settings`, its section for this kind of judge.
    prompts : the table.
    inputs : paths by name, those that the declaration names.
    output : the quality table to write; what must survive a killed job is kept next to it.
    log : the rule's; output of other programs goes into a file next to it.
    """

    config: Config
    settings: Any
    prompts: pd.DataFrame
    inputs: Mapping[str, str]
    output: Path
    log: Path


class RewardJudge:
    """A judge with a reward for each answer: P(a beats b) = sigmoid(reward(a) - reward(b)) (Bradley and Terry, 1952).

    Parameters
    ----------
    rate : rates answers that did not fail; see `Rate`.
    details : what `measured` returns besides the counts.
    calls : the calls that `rate` makes of a model, if it makes any; they are counted too.
    """

    def __init__(self, rate: Rate, details: Mapping[str, Any], calls: Calls | None = None) -> None:
        self.rewards: Mapping[Key, float] = {}
        self.failures: list[tuple[str, str]] = []
        self._rate = rate
        self._details = details
        self._calls = calls
        self._rated = self._failed = 0

    def read(self, candidates: pd.DataFrame) -> None:
        """Rate these answers; failed ones are left out."""
        self.rewards, reasons = self._rate(candidates[candidates["finish_reason"] != "error"])
        self.failures = [(name_of_answer(key), reason) for key, reason in reasons.items()]
        self._rated += len(self.rewards)
        self._failed += len(self.failures)

    def compare(self, comparisons: Sequence[Comparison]) -> np.ndarray:
        """P(the first answer is better) `[N]`; nan where one of the two has no reward."""
        sides = ([self._reward(c, c.first) for c in comparisons], [self._reward(c, c.second) for c in comparisons])
        first, second = np.array(sides, dtype=np.float64)
        return expit(first - second)

    def _reward(self, comparison: Comparison, player: str) -> float:
        prompt_id, seed = comparison.group
        return self.rewards.get((prompt_id, player, seed), np.nan)

    def measured(self) -> dict[str, Any]:
        """The details, how many answers were rated and how many could not be."""
        calls = {} if self._calls is None else self._calls.measured()
        return {**self._details, **calls, "answers_rated": self._rated, "answers_failed": self._failed}


def name_of_answer(key: Key) -> str:
    """An answer's key for a reader."""
    return "prompt {}, heuristic {}, seed {}".format(*key)
