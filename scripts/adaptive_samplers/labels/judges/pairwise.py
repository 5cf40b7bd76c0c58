"""Judging by a language model that is shown two answers and asked which one is better."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy.special import expit

from adaptive_samplers.config.model.judges import Question
from adaptive_samplers.labels.judges.base import Case, Key, name_of_answer
from adaptive_samplers.labels.judges.calls import Call, Calls, Result
from adaptive_samplers.labels.judges.encoding import Messages
from adaptive_samplers.labels.judges.model_judges import ask_model
from adaptive_samplers.labels.judges.registry import orders_asked
from adaptive_samplers.labels.tournament import Comparison
from adaptive_samplers.messages import written_out
from adaptive_samplers.tables import KEY

# Nats: for a label that was not given, if a reply has no probabilities. Makes an outcome of 0 or 1.
NEVER = -100.0


class QuestionEncoder(Protocol):
    """Turns a conversation into what the model reads."""

    def question(self, messages: Messages) -> Call:
        """A conversation up to where the model's reply begins."""
        ...


class PairwiseJudge:
    """P(a is better) from the probabilities of two labels as the model's next token, normalized over the two.

    With `order: both`, each comparison is asked twice, with either answer first, and the two are averaged: a position
    bias then cancels, and P(a, b) + P(b, a) = 1. With `order: one`, each is asked once, in the given order: a
    tournament balances who is first, and draws lots otherwise. Two answers with the same text are equal without a call.

    Parameters
    ----------
    settings : mapping
        The config's `labels.quality.judge`.
    prompts : table
    calls : Calls
        With a scorer that gives the log-probabilities of the two labels, the first answer's first.
    encoder : ChatEncoder or TextEncoder
        Whichever the scorer reads.

    References
    ----------
    Zheng et al. (2023), Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena, for position bias; Wang et al. (2025),
    GRAM: A Generative Foundation Reward Model for Reward Generalization.
    """

    def __init__(
        self,
        settings: Question,
        prompts: pd.DataFrame,
        calls: Calls,
        encoder: QuestionEncoder,
    ) -> None:
        self.rewards: dict[Key, float] = {}
        self.failures: list[tuple[str, str]] = []
        self.settings = settings
        self.calls = calls
        self.encoder = encoder
        self._prompts = {row.prompt_id: written_out(json.loads(row.messages)) for row in prompts.itertuples()}
        self._texts: dict[Key, str] = {}
        self._tally = dict.fromkeys(("calls", "first", "told", "mass", "turned", "disagreements", "identical"), 0.0)

    def read(self, candidates: pd.DataFrame) -> None:
        """Take these answers in place of those before."""
        self._texts = dict(zip(candidates[KEY].itertuples(index=False, name=None), candidates["text"], strict=True))
        self.failures = []

    def compare(self, comparisons: Sequence[Comparison]) -> np.ndarray:
        """P(the first answer is better) `[N]`; nan where a call failed."""
        outcomes = np.full(len(comparisons), np.nan)
        asked = []
        for place, comparison in enumerate(comparisons):
            first, second = self._answers(comparison)
            if first == second:
                outcomes[place] = 0.5
                self._tally["identical"] += 1
            else:
                asked.append(place)
        orders = orders_asked(self.settings)
        calls = self._encoded([comparisons[place] for place in asked], orders)
        results = self.calls.answer(calls, orders * len(asked), "comparing answers")
        for place, *shown in zip(asked, *[results] * orders, strict=True):
            outcomes[place] = self._outcome(comparisons[place], shown)
        return outcomes

    def _answers(self, comparison: Comparison) -> tuple[str, str]:
        prompt_id, seed = comparison.group
        return self._texts[prompt_id, comparison.first, seed], self._texts[prompt_id, comparison.second, seed]

    def _encoded(self, comparisons: Sequence[Comparison], orders: int) -> Iterator[Call]:
        for comparison in comparisons:
            answers = self._answers(comparison)
            for first, second in (answers, answers[::-1])[:orders]:
                prompt = self._prompts[comparison.group[0]]
                text = fill_template(self.settings.template, prompt, (first, second), self.settings.labels)
                yield self.encoder.question([{"role": "user", "content": text}])

    def _outcome(self, comparison: Comparison, shown: Sequence[Result]) -> float:
        """The probability that the first answer is better, from the results of one call or two."""
        for result in shown:
            if result.error is not None:
                prompt_id, seed = comparison.group
                first = name_of_answer((prompt_id, comparison.first, seed))
                self.failures.append((f"{first}, against heuristic {comparison.second}", result.error))
                return np.nan
        probabilities = [float(expit(one - other)) for one, other in (result.values for result in shown)]
        self._tally["calls"] += len(shown)
        self._tally["first"] += sum(probabilities)
        told = [result.values for result in shown if min(result.values) > NEVER]
        self._tally["told"] += len(told)
        self._tally["mass"] += float(np.exp(told).sum())
        if len(probabilities) == 1:
            return probabilities[0]
        straight, turned = probabilities
        self._tally["turned"] += 1
        self._tally["disagreements"] += (straight - 0.5) * (turned - 0.5) > 0
        return (straight + 1 - turned) / 2

    def measured(self) -> dict[str, Any]:
        """The judge's position bias, how often it contradicts itself, and the counts of its calls.

        `position_bias` is the mean probability of the answer shown first, less one half: 0 for a judge that does not
        care. `orders_disagree` is the share of comparisons in both orders that name different winners. `label_mass` is
        the mean probability of the two labels together: near 0, the model does not answer the question at all. It is
        over the share `told_probabilities` of the calls; in the others, of an endpoint, the reply was a label's text.
        """
        tally = self._tally
        calls, turned = tally["calls"], tally["turned"]
        extra = {"told_probabilities": tally["told"] / calls if calls else None}
        return {
            "kind": self.settings.kind,
            "model": getattr(self.settings, "model", self.settings.name),
            "order": self.settings.order,
            "position_bias": tally["first"] / calls - 0.5 if calls else None,
            "orders_disagree": tally["disagreements"] / turned if turned else None,
            "label_mass": tally["mass"] / tally["told"] if tally["told"] else None,
            **(extra if self.settings.kind == "endpoint" else {}),
            "identical_answers": int(tally["identical"]),
            **self.calls.measured(),
        }


def open_pairwise(case: Case) -> AbstractContextManager[PairwiseJudge]:
    """The judge with its model."""
    labels = case.settings.labels
    return ask_model(case, PairwiseJudge, "labels", lambda tokenizer, encoder: encoder.label_ids(labels))


def fill_template(template: str, prompt: str, answers: tuple[str, str], labels: Sequence[str]) -> str:
    """The template with all placeholders filled in at once: text in an answer is never taken for one."""
    values = dict(zip(PLACEHOLDERS, [prompt, *answers, *labels], strict=True))
    return re.sub("|".join(f"{{{name}}}" for name in values), lambda found: values[found.group()[1:-1]], template)


PLACEHOLDERS = ("prompt", "first_answer", "second_answer", "first_label", "second_label")
