"""The interface of every judge, and the judges that rate each answer alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy.special import expit

from adaptive_samplers.config.model import Config
from adaptive_samplers.labels.tournament import Comparison

Key = tuple[str, str, int]  # prompt_id, heuristic_id, seed


class Judge(Protocol):
    """Says of two answers to the same prompt and seed which one is better.

    A failed call is not an opinion: its outcome is nan, and its reason is kept.

    Attributes
    ----------
    rewards : mapping from an answer's key to the judge's scalar; empty if the judge only compares.
    failures : (what could not be judged, why), in the order in which it happened.
    """

    rewards: Mapping[Key, float]
    failures: Sequence[tuple[str, str]]

    def compare(self, comparisons: Sequence[Comparison]) -> np.ndarray:
        """P(the first answer is better) `[N]`; nan where the call failed."""
        ...

    def measured(self) -> dict[str, Any]:
        """What is known about the judge itself after its work, for the report: at least its `kind`."""
        ...


@dataclass(frozen=True)
class Case:
    """What a judge is opened with.

    Attributes
    ----------
    config : the stage's slice of the config, and `settings`, its section for this kind of judge.
    prompts, candidates : the tables; of the candidates, the columns that the judge's declaration names.
    inputs : paths by name, those that the declaration names.
    output : the quality table to write; what must survive a killed job is kept next to it.
    log : the rule's; output of other programs goes into a file next to it.
    """

    config: Config
    settings: Any
    prompts: pd.DataFrame
    candidates: pd.DataFrame
    inputs: Mapping[str, str]
    output: Path
    log: Path


class RewardJudge:
    """A judge with a reward for each answer: P(a beats b) = sigmoid(reward(a) - reward(b)) (Bradley and Terry, 1952).

    Parameters
    ----------
    rewards : the rewards of the answers that could be rated.
    reasons : why the others could not be rated.
    details : what `measured` returns besides the counts.
    """

    def __init__(self, rewards: Mapping[Key, float], reasons: Mapping[Key, str], details: Mapping[str, Any]) -> None:
        self.rewards = rewards
        self.failures = [(name_of_answer(key), reason) for key, reason in reasons.items()]
        self._details = details

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
        return {**self._details, "answers_rated": len(self.rewards), "answers_failed": len(self.failures)}


def name_of_answer(key: Key) -> str:
    """An answer's key for a reader."""
    return "prompt {}, heuristic {}, seed {}".format(*key)
