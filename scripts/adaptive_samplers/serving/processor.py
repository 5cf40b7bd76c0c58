"""What an SGLang server runs at every token: the one logits processor behind all heuristics and learned samplers.

A request's `custom_params` hold everything that varies (`request`): the pipeline, the key of its uniform numbers, the
longest answer and what ends it. The processor draws the token itself and leaves it as the only one with a finite logit,
so that SGLang's own sampling has nothing to decide. Its measurements are returned with the answer: the raw
log-probabilities of each token and of ending there. So are its failures, because an exception here would end the server
for all requests.
"""

import json
import logging
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adaptive_samplers.engines.drawing import Draws
from adaptive_samplers.heuristics import Pipeline
from adaptive_samplers.serving.next_tokens import check_samplers, is_complete, next_tokens, parsed
from adaptive_samplers.serving.request import FIELD, Around, last_token, read_request

LOG = logging.getLogger(__name__)
_REQUEST = "__req__"  # what SGLang adds to a request's parameters: the request itself


class PipelineProcessor:
    """Draws the next token of every request that carries it; SGLang calls it with the logits of these requests.

    What it measured is returned in the answer's `meta_info`, under `request.FIELD`: a record for each token.
    """

    def __call__(self, logits: Tensor, custom_param_list: Sequence[Mapping[str, Any]] | None = None) -> Tensor:
        """All logits minus infinity except that of the drawn token, `[R, V]`.

        The logits of a request without `custom_params` stay as they are: SGLang then does not say which one it is.
        """
        known = [row for row, one in enumerate(custom_param_list or []) if one is not None and _REQUEST in one]
        parameters = [custom_param_list[row] for row in known]
        if len(known) == len(logits):
            output = torch.full_like(logits, -torch.inf)
            output[known, _tokens(logits, parameters)] = 0.0
            return output
        LOG.warning("a request has our processor but no custom_params: SGLang itself draws its tokens")
        output = logits.clone()
        if known:
            output[known] = self(logits[known], parameters)
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


def _tokens(logits: Tensor, parameters: Sequence[Mapping[str, Any]]) -> list[int]:
    try:
        return _step(logits, parameters)
    except Exception:
        # One at a time, so that an error in one request does not affect the others.
        return [_alone(logits[row : row + 1], parameters[row]) for row in range(len(logits))]


def _alone(logits: Tensor, parameters: Mapping[str, Any]) -> int:
    try:
        return _step(logits, [parameters])[0]
    except Exception as error:
        # Not every interface of SGLang's returns the record.
        LOG.warning("an answer ends, because it cannot go on: %s", error)
        _record(parameters, {"error": f"{type(error).__name__}: {error}"})
        return last_token(_asked(parameters), _end_token_ids(parameters[_REQUEST]))


def _step(logits: Tensor, parameters: Sequence[Mapping[str, Any]]) -> list[int]:
    """The next token of every request; nothing is recorded unless all of them could be drawn."""
    read = [_read(one) for one in parameters]
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    ends = read[0]["end_token_ids"]
    if any(one["end_token_ids"] != ends for one in read):
        raise ValueError("requests with different end-of-turn tokens are drawn one at a time")
    end_log_probs = torch.logsumexp(log_probs[:, ends], dim=-1).tolist()
    # For a cut-off answer, this step only measures the log-probability of ending.
    requests = [one[_REQUEST] for one in parameters]
    tokens, chosen = next_tokens(
        log_probs,
        read,
        [_place(request) for request in requests],
        [_is_complete(*pair) for pair in zip(requests, read, strict=True)],
        lambda row: _draws(requests[row], read[row]),
    )
    for one, value, end in zip(parameters, chosen, end_log_probs, strict=True):
        _record(one, [value, end])
    return tokens


def _asked(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in parameters.items() if not key.startswith("__")}  # those are SGLang's own


def _read(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What the request asks, all keys filled in; kept with it from token to token."""
    request = parameters[_REQUEST]
    read = getattr(request, "adaptive_samplers_read", None)
    if read is None:
        sampling = request.sampling_params
        seed = getattr(sampling, "sampling_seed", None)
        around = Around(sampling, sampling.max_new_tokens, seed, _end_token_ids(request))
        read = request.adaptive_samplers_read = read_request(_asked(parameters), around)
    return read


def _end_token_ids(request: Any) -> list[int]:
    """Those of the request, of the model's generation config, and of its tokenizer."""
    tokenizer = request.tokenizer
    found = {
        *(request.sampling_params.stop_token_ids or ()),
        *(request.eos_token_ids or ()),
        getattr(tokenizer, "eos_token_id", None),
        *(getattr(tokenizer, "additional_stop_token_ids", None) or ()),
    }
    return sorted(found - {None})


def _place(request: Any) -> int:
    """How many tokens the answer has."""
    return len(request.output_ids)


def _is_complete(request: Any, read: Mapping[str, Any]) -> bool:
    def decode(token_ids: list[int]) -> str:
        return request.tokenizer.decode(token_ids, skip_special_tokens=True)

    return is_complete(read, _place(request), lambda: request.output_ids, decode)


def _draws(request: Any, read: Mapping[str, Any]) -> Draws:
    """The draws of a request's answer, kept with the request from token to token."""
    draws = getattr(request, "adaptive_samplers_draws", None)
    if draws is None:
        check_samplers(read["sampler_hashes"])
        draws = Draws.start(parsed(read["processors"]), read["sample_seed"], read["max_new_tokens"])
        request.adaptive_samplers_draws = draws
    return draws


def _record(parameters: Mapping[str, Any], record: Any) -> None:
    """Return something with the token that is drawn now."""
    request = parameters[_REQUEST]
    information = request.customized_info or {}
    records = information.setdefault(FIELD, [])
    # A request that the server had to retract draws its last token again.
    del records[_place(request) :]
    records.append(record)
    request.customized_info = information
