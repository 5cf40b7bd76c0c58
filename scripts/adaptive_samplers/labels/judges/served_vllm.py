"""A judge's model behind vLLM's server: the same numbers as in process."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from adaptive_samplers.config.model.judges import ModelJudgeSettings
from adaptive_samplers.labels.judges.calls import Continuation, Question
from adaptive_samplers.labels.judges.served import ServedScorer, likelihood, one_reward, scorer_of
from adaptive_samplers.serving.pool import EndpointPool
from adaptive_samplers.serving.vllm_replies import logprobs_of, prompt_logprobs_of, single_choice

COMPLETIONS = "/v1/completions"


def open_served_vllm(
    settings: ModelJudgeSettings, folder: Path, log: Path, reads: str, token_ids: Sequence[int]
) -> AbstractContextManager[ServedScorer]:
    """The scorer of what a judge reads from its model, by vLLM."""
    return scorer_of(SCORERS, settings, folder, log, reads, token_ids)


def vllm_rewards(pool: EndpointPool, token_ids: Sequence[int] = ()) -> ServedScorer:
    """The reward of each sequence, from a server started for a model with one label."""
    # The score itself, which vLLM would turn into a probability.
    options = {"use_activation": False}
    return ServedScorer(pool, "/classify", options, _reward, lambda token_ids: {"input": list(token_ids)})


def _reward(reply: Any, _: Question) -> tuple[float, ...]:
    (scored,) = reply["data"]
    return one_reward(scored["probs"])


def vllm_labels(pool: EndpointPool, label_ids: Sequence[int]) -> ServedScorer:
    """Log-probabilities, in nats, of the tokens `label_ids` as the next one."""

    def read(reply: Any, _: Question) -> tuple[float, ...]:
        return _next_of(single_choice(reply), label_ids)

    return ServedScorer(pool, COMPLETIONS, _next_token(label_ids), read, lambda token_ids: {"prompt": list(token_ids)})


def vllm_likelihoods(pool: EndpointPool, end_ids: Sequence[int]) -> ServedScorer:
    """Log-probabilities, in nats: mean of each continuation's tokens, and of one of the tokens `end_ids` after them.

    If a continuation is empty, that of the end is used for the mean too.
    """

    def read(reply: Any, continuation: Continuation) -> tuple[float, ...]:
        choice = single_choice(reply)
        found, asked = prompt_logprobs_of(choice), continuation.token_ids
        if len(found) != len(asked):
            raise ValueError("its log-probabilities are of other tokens than were asked for")
        values = [found[place][asked[place]] for place in range(continuation.start, len(asked))]
        return likelihood(values, _next_of(choice, end_ids))

    # None beside those of the prompt's tokens themselves.
    options = {**_next_token(end_ids), "prompt_logprobs": 0}
    return ServedScorer(pool, COMPLETIONS, options, read, lambda asked: {"prompt": list(asked.token_ids)})


SCORERS = {"rewards": vllm_rewards, "labels": vllm_labels, "likelihoods": vllm_likelihoods}


def _next_token(token_ids: Sequence[int]) -> dict[str, Any]:
    """Request options for the next-token log-probabilities of some tokens."""
    return {
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": 0,
        "logprob_token_ids": list(token_ids),
        "return_tokens_as_token_ids": True,
    }


def _next_of(choice: Any, token_ids: Sequence[int]) -> tuple[float, ...]:
    (found,) = logprobs_of(choice)
    return tuple(found[token_id] for token_id in token_ids)
