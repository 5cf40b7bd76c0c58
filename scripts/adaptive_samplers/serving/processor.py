"""What an SGLang server runs at every token: the one logits processor behind all heuristics and learned samplers.

A request's `custom_params` hold everything that varies: the pipeline, the key of its uniform numbers, the longest
answer and what ends it. The processor draws the token itself and leaves it as the only one with a finite logit, so that
SGLang's own sampling has nothing to decide. Its measurements are returned with the answer: the raw log-probabilities of
each token and of ending there. So are its failures, because an exception here would end the server for all requests.
"""

import json
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adaptive_samplers.engines.drawing import Draws
from adaptive_samplers.heuristics import Pipeline
from adaptive_samplers.serving.next_tokens import check_samplers, is_complete, next_tokens, parsed

FIELD = "adaptive_samplers"  # of the answer's meta_info: a record for each token


class PipelineProcessor:
    """Draws the next token of every request that carries it; SGLang calls it with the logits of these requests."""

    def __call__(self, logits: Tensor, custom_param_list: Sequence[Mapping[str, Any]] | None = None) -> Tensor:
        """All logits minus infinity except that of the drawn token, `[R, V]`."""
        parameters = custom_param_list or []
        try:
            tokens = _step(logits, parameters)
        except Exception:
            # One at a time, so that an error in one request does not affect the others.
            tokens = [_alone(logits[row : row + 1], parameters[row]) for row in range(len(logits))]
        output = torch.full_like(logits, -torch.inf)
        output[torch.arange(len(tokens)), torch.tensor(tokens)] = 0.0
        return output


def serialized() -> str:
    """The processor as SGLang expects it: a reference by name, which the server resolves by importing this module."""
    return json.dumps({"callable": pickle.dumps(PipelineProcessor).hex()})


def request_parameters(
    pipeline: Pipeline,
    sample_seed: int,
    max_new_tokens: int,
    stop: Sequence[str],
    end_token_ids: Sequence[int],
    sampler_hashes: Mapping[str, str],
    given: Sequence[int] | None = None,
) -> dict[str, Any]:
    """The `custom_params` of a request; `given` are the answer's tokens if nothing is to be drawn."""
    return {
        "processors": json.dumps([step.describe() for step in pipeline]),
        "sample_seed": sample_seed,
        "max_new_tokens": max_new_tokens,
        "stop": list(stop),
        "end_token_ids": list(end_token_ids),
        "sampler_hashes": dict(sampler_hashes),
        **({} if given is None else {"given": list(given)}),
    }


def _alone(logits: Tensor, parameters: Mapping[str, Any]) -> int:
    try:
        return _step(logits, [parameters])[0]
    except Exception as error:
        _record(parameters, {"error": f"{type(error).__name__}: {error}"})
        return _ends(parameters)[0]


def _step(logits: Tensor, parameters: Sequence[Mapping[str, Any]]) -> list[int]:
    """The next token of every request; nothing is recorded unless all of them could be drawn."""
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    ends = _ends(parameters[0])
    if any(_ends(one) != ends for one in parameters):
        raise ValueError("requests with different end-of-turn tokens are drawn one at a time")
    end_log_probs = torch.logsumexp(log_probs[:, ends], dim=-1).tolist()
    # For a cut-off answer, this step only measures the log-probability of ending.
    tokens, chosen = next_tokens(
        log_probs,
        parameters,
        [_place(one) for one in parameters],
        [_is_complete(one) for one in parameters],
        lambda row: _draws(parameters[row]),
    )
    for one, value, end in zip(parameters, chosen, end_log_probs, strict=True):
        _record(one, [value, end])
    return tokens


def _ends(parameters: Mapping[str, Any]) -> list[int]:
    return parameters["end_token_ids"]


def _place(parameters: Mapping[str, Any]) -> int:
    """How many tokens the answer has."""
    return len(parameters["__req__"].output_ids)


def _is_complete(parameters: Mapping[str, Any]) -> bool:
    request = parameters["__req__"]

    def decode(token_ids: list[int]) -> str:
        return request.tokenizer.decode(token_ids, skip_special_tokens=True)

    return is_complete(parameters, _place(parameters), lambda: request.output_ids, decode)


def _draws(parameters: Mapping[str, Any]) -> Draws:
    """The draws of a request's answer, kept with the request from token to token."""
    request = parameters["__req__"]
    draws = getattr(request, "adaptive_samplers_draws", None)
    if draws is None:
        check_samplers(parameters["sampler_hashes"])
        pipeline = parsed(parameters["processors"])
        draws = Draws.start(pipeline, parameters["sample_seed"], parameters["max_new_tokens"])
        request.adaptive_samplers_draws = draws
    return draws


def _record(parameters: Mapping[str, Any], record: Any) -> None:
    """Return something with the token that is drawn now."""
    request = parameters["__req__"]
    information = request.customized_info or {}
    records = information.setdefault(FIELD, [])
    # A request that the server had to retract draws its last token again.
    del records[_place(parameters) :]
    records.append(record)
    request.customized_info = information
