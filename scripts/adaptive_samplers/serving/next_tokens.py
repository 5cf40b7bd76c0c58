"""What the processors of all servers share: the next token of every request, by its parameters and its place alone.

A request's parameters are those of `processor.request_parameters`.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from adaptive_samplers.engines.base import cut_before
from adaptive_samplers.engines.drawing import Draws, draw_tokens
from adaptive_samplers.hashing import file_sha256
from adaptive_samplers.heuristics import parse_processors

_LOADED: dict[str, str] = {}  # the hash of each learned sampler that this process has read
_LOADING = threading.Lock()

parsed = lru_cache(maxsize=4096)(parse_processors)


def next_tokens(
    log_probs: Tensor,
    parameters: Sequence[Mapping[str, Any]],
    places: Sequence[int],
    complete: Sequence[bool],
    draws: Callable[[int], Draws],
) -> tuple[list[int], list[float | None]]:
    """The next token of every request.

    Parameters
    ----------
    log_probs : Tensor [R, V]
        The language model's log-probabilities, nats.
    parameters : sequence of R
    places : sequence of R
        How many tokens each answer has.
    complete : sequence of R
        Whether each answer is complete: then its next token is the first that ends answers.
    draws : function of a row
        The draws of its answer; asked for only where a token is drawn.

    Returns
    -------
    token ids [R], and their log-probabilities under the language model, nats; None where the answer ends.
    """
    tokens = [one["end_token_ids"][0] if done else -1 for one, done in zip(parameters, complete, strict=True)]
    chosen: list[float | None] = [None] * len(parameters)
    left = [row for row, done in enumerate(complete) if not done]
    for row in left:
        if "given" in parameters[row]:
            tokens[row] = parameters[row]["given"][places[row]]
            chosen[row] = float(log_probs[row, tokens[row]])
    drawing = [row for row in left if "given" not in parameters[row]]
    if drawing:
        answers = [draws(row) for row in drawing]
        drawn = draw_tokens(log_probs, drawing, answers, [places[row] for row in drawing])
        for row, token, value in zip(drawing, drawn.token_ids, drawn.log_probs, strict=True):
            tokens[row] = token
            chosen[row] = None if token in parameters[row]["end_token_ids"] else value
    return tokens, chosen


def is_complete(
    parameters: Mapping[str, Any],
    place: int,
    token_ids: Callable[[], Sequence[int]],
    decode: Callable[[list[int]], str],
) -> bool:
    """Whether an answer of `place` tokens has its maximum length, or contains a string that ends it.

    `token_ids` gives the answer's tokens and `decode` their text, if they are needed.
    """
    if place >= parameters["max_new_tokens"]:
        return True
    if not parameters["stop"] or not place:
        return False
    return cut_before(decode(list(token_ids())), parameters["stop"]) is not None


def check_samplers(hashes: Mapping[str, str]) -> None:
    """Make sure that learned samplers are the ones that the request means, even if one was retrained.

    Raises
    ------
    ValueError
        The weights in a folder have another hash.
    OSError
        They cannot be read.
    """
    for path, expected in hashes.items():
        with _LOADING:
            if _LOADED.get(path) == expected:
                continue
            found = file_sha256(Path(path) / "model.safetensors")
            if found != expected:
                raise ValueError(f"the sampler in {path} is another one than the request means")
            from adaptive_samplers.samplers.base import load_sampler

            load_sampler.cache_clear()
            _LOADED[path] = expected
