"""Judging by a reference language model: how probable it finds an answer, and the question given the answer."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pandas as pd

from adaptive_samplers.config.model.judges import LikelihoodSettings
from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.judges.base import Case, Key, RewardJudge
from adaptive_samplers.labels.judges.calls import Call, Calls
from adaptive_samplers.labels.judges.encoding import ChatEncoder, Messages
from adaptive_samplers.labels.judges.features import judged_text
from adaptive_samplers.labels.judges.model_judges import ask_model
from adaptive_samplers.labels.judges.registry import likelihood_calls
from adaptive_samplers.messages import question_of
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.tables import KEY


def open_likelihood(case: Case) -> AbstractContextManager[RewardJudge]:
    """The judge with its model."""

    def ends(tokenizer: ChatTokenizer, encoder: ChatEncoder) -> list[int]:
        if not tokenizer.end_token_ids:
            raise UserError(f"the judge's model '{case.settings.name}' names no token that ends an answer")
        return tokenizer.end_token_ids

    return ask_model(case, likelihood_judge, "likelihoods", ends)


def likelihood_judge(
    settings: LikelihoodSettings, prompts: pd.DataFrame, calls: Calls, encoder: ChatEncoder
) -> RewardJudge:
    """Rate every answer by log-probabilities under a reference model, in nats.

    The reward is the sum of these, each times its weight in `settings.weights`:

    - `answer`: the mean log-probability of the answer's tokens, given the prompt;
    - `end`: the log-probability that the answer ends where it does;
    - `unconditional`: the mean log-probability of the answer's tokens, given an empty question. With the opposite
      weight of `answer` it makes the pointwise mutual information of prompt and answer, a token;
    - `question`: the mean log-probability of the question's tokens, as a reply to the answer.

    An empty answer has no token but the end, so the end's log-probability is the mean. An answer cut off at the token
    limit is judged up to its last complete sentence, because it would not end elsewhere. Terms with weight 0 are not
    requested: an answer takes one call, and one more each for `unconditional` and `question`.

    References
    ----------
    Holtzman et al. (2021), Surface Form Competition, for answers against an empty question; Sachan et al. (2022),
    Improving Passage Retrieval with Zero-Shot Question Generation, for the question given the answer.
    """
    weights = {term: weight for term, weight in settings.weights if weight}
    kinds = likelihood_calls(settings)
    conversations = {row.prompt_id: json.loads(row.messages) for row in prompts.itertuples()}
    questions = dict(zip(prompts["prompt_id"], prompts["messages"].map(question_of), strict=True))

    def encoded(answered: pd.DataFrame) -> Iterator[Call]:
        columns = (answered[name] for name in ("prompt_id", "text", "finish_reason"))
        for prompt_id, whole, finish_reason in zip(*columns, strict=True):
            text = judged_text(whole, finish_reason)
            for kind in kinds:
                yield encoder.continuation(*_asked(kind, conversations[prompt_id], questions[prompt_id], text))

    def rate(answered: pd.DataFrame) -> tuple[dict[Key, float], dict[Key, str]]:
        # By prompt, so that answers that share one are near each other.
        answered = answered.sort_values(KEY)
        rewards: dict[Key, float] = {}
        reasons: dict[Key, str] = {}
        keys = answered[KEY].itertuples(index=False, name=None)
        results = calls.answer(encoded(answered), len(kinds) * len(answered), "scoring answers")
        for key, *found in zip(keys, *[results] * len(kinds), strict=True):
            problem = next((result.error for result in found if result.error is not None), None)
            if problem is not None:
                reasons[key] = problem
                continue
            terms = {kind: result.values[0] for kind, result in zip(kinds, found, strict=True)}
            if "answer" in kinds:
                terms["end"] = found[kinds.index("answer")].values[1]
            rewards[key] = sum(weight * terms[term] for term, weight in weights.items())
        return rewards, reasons

    return RewardJudge(rate, {"kind": "likelihood", "model": settings.name, "weights": weights}, calls)


def _asked(kind: str, conversation: Messages, question: str, answer: str) -> tuple[Messages, str]:
    """What the model is shown in a kind of call, and the reply that is scored."""
    if kind == "answer":
        return conversation, answer
    if kind == "unconditional":
        return [{"role": "user", "content": ""}], answer
    return [{"role": "user", "content": answer}], question
