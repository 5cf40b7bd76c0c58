"""What vLLM's replies to completions say of log-probabilities, by token id."""

from collections.abc import Mapping
from typing import Any

_PREFIX = "token_id:"  # of a token that is named by its id (`return_tokens_as_token_ids`)


def single_choice(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one completion that was asked for; raises KeyError, TypeError or ValueError if there is another number."""
    (choice,) = reply["choices"]
    return choice


def logprobs_of(choice: Mapping[str, Any]) -> list[dict[int, float]]:
    """For each token of a completion the log-probabilities, in nats, that are known at its place.

    Those of the token itself, and of the tokens in the request's `logprob_token_ids`.
    """
    return [
        {int(name.removeprefix(_PREFIX)): float(value) for name, value in place.items()}
        for place in choice["logprobs"]["top_logprobs"]
    ]


def prompt_logprobs_of(choice: Mapping[str, Any]) -> list[dict[int, float]]:
    """For each token of the prompt the log-probabilities at its place, as requested by `prompt_logprobs`.

    Nothing is known at the first one.
    """
    return [
        {int(token_id): float(found["logprob"]) for token_id, found in (place or {}).items()}
        for place in choice["prompt_logprobs"]
    ]
