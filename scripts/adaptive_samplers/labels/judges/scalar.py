"""Judging by a reward model: a sequence classifier with one label, called once per answer."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pandas as pd

from adaptive_samplers.config.model.judges import ScalarSettings
from adaptive_samplers.labels.judges.base import Case, Key, RewardJudge
from adaptive_samplers.labels.judges.calls import Call, Calls
from adaptive_samplers.labels.judges.encoding import ChatEncoder
from adaptive_samplers.labels.judges.model_judges import ask_model
from adaptive_samplers.tables import KEY


def open_scalar(case: Case) -> AbstractContextManager[RewardJudge]:
    """The judge with its model."""
    return ask_model(case, scalar_judge, "rewards", lambda tokenizer, encoder: [])


def scalar_judge(settings: ScalarSettings, prompts: pd.DataFrame, calls: Calls, encoder: ChatEncoder) -> RewardJudge:
    """Rate every answer with a reward model.

    The model reads the prompt's messages and the answer as the assistant's, by its own chat template; its one logit at
    the last token is the reward. As such models are trained, P(a beats b) = sigmoid(reward(a) - reward(b)).

    References
    ----------
    Ouyang et al. (2022), Training language models to follow instructions with human feedback; Liu et al. (2025),
    Skywork-Reward-V2.
    """
    conversations = dict(zip(prompts["prompt_id"], prompts["messages"], strict=True))

    def encoded(answered: pd.DataFrame) -> Iterator[Call]:
        for prompt_id, text in zip(answered["prompt_id"], answered["text"], strict=True):
            asked = json.loads(conversations[prompt_id])
            yield encoder.finished([*asked, {"role": "assistant", "content": text}])

    def rate(answered: pd.DataFrame) -> tuple[dict[Key, float], dict[Key, str]]:
        # By prompt, so that answers that share one are near each other.
        answered = answered.sort_values(KEY)
        rewards: dict[Key, float] = {}
        reasons: dict[Key, str] = {}
        keys = answered[KEY].itertuples(index=False, name=None)
        results = calls.answer(encoded(answered), len(answered), "rating answers")
        for key, result in zip(keys, results, strict=True):
            if result.error is None:
                (rewards[key],) = result.values
            else:
                reasons[key] = result.error
        return rewards, reasons

    return RewardJudge(rate, {"kind": "scalar", "model": settings.name}, calls)
