"""What a request asks of our processor in vLLM, read from `vllm_xargs`.

    {"adaptive_samplers": "{\"processors\": [{\"temperature\": 0.7}, {\"top_p\": 0.9}], \"sample_seed\": 1}"}

Nothing here needs vLLM.
"""

from collections.abc import Sequence
from typing import Any

from adaptive_samplers.serving import request
from adaptive_samplers.serving.request import FIELD, Around


def read_request(params: Any) -> dict[str, Any] | None:
    """`request.read_request` of vLLM's SamplingParams; None if they ask nothing of us.

    Raises
    ------
    Refused
        vLLM answers with HTTP 400 and the message.
    """
    value = _value(params)
    if value is None:
        return None
    around = Around(params, getattr(params, "max_tokens", None), getattr(params, "seed", None), _end_token_ids(params))
    return request.read_request(value, around)


def last_token(params: Any) -> int:
    """The token that ends an answer to an admitted request that cannot be read any more."""
    return request.last_token(_value(params), _end_token_ids(params))


def _value(params: Any) -> Any:
    return (getattr(params, "extra_args", None) or {}).get(FIELD)


def _end_token_ids(params: Any) -> Sequence[int]:
    """Those of the request and, once it is admitted, of the model."""
    return list(getattr(params, "_all_stop_token_ids", None) or params.stop_token_ids or [])
