"""A pairwise judge's model behind an OpenAI-compatible endpoint: asked in text, with the answer read from its reply."""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from scipy.special import logsumexp

from adaptive_samplers.config.model.judges import EndpointSettings
from adaptive_samplers.labels.judges.base import Case
from adaptive_samplers.labels.judges.calls import Call
from adaptive_samplers.labels.judges.encoding import Messages
from adaptive_samplers.labels.judges.model_judges import asking
from adaptive_samplers.labels.judges.pairwise import NEVER, PairwiseJudge
from adaptive_samplers.labels.judges.served import ServedScorer
from adaptive_samplers.serving.api import ApiPool
from adaptive_samplers.serving.pool import EndpointPool

# What the model's replies depend on, because it has no files here.
CALL_SETTINGS = {"kind", "model", "labels", "max_tokens", "top_logprobs", "request"}


class TextEncoder:
    """Questions as text: the model behind an endpoint has its own chat template."""

    def question(self, messages: Messages) -> Call:
        """A conversation of one message."""
        (message,) = messages
        return Call(message["content"])


def open_endpoint(case: Case) -> AbstractContextManager[PairwiseJudge]:
    """The judge, for an externally served model."""
    settings = case.settings

    def open_scorer() -> AbstractContextManager[ServedScorer]:
        limits = settings.concurrency, settings.request_timeout, settings.requests_per_second
        pool = ApiPool(settings.base_url, settings.api_key_variable, *limits)
        return nullcontext(endpoint_labels(pool, settings))

    source = [settings.model_dump(include=CALL_SETTINGS)]
    return asking(case, PairwiseJudge, source, TextEncoder(), None, open_scorer)


def endpoint_labels(pool: EndpointPool, settings: EndpointSettings) -> ServedScorer:
    """Log-probabilities, in nats, of the two labels as the first token of a reply to each text; see `label_values`.

    Parameters
    ----------
    pool : EndpointPool
    settings : mapping
        The config's judge: model, labels, max_tokens, top_logprobs and request.
    """
    options: dict[str, Any] = {"model": settings.model, "max_tokens": settings.max_tokens, "temperature": 0}
    if settings.top_logprobs:
        options |= {"logprobs": True, "top_logprobs": settings.top_logprobs}
    options = {key: value for key, value in {**options, **settings.request}.items() if value is not None}
    return ServedScorer(
        pool,
        "/chat/completions",
        options,
        lambda reply, _: label_values(reply, settings.labels),
        lambda text: {"messages": [{"role": "user", "content": text}]},
    )


def label_values(reply: Any, labels: Sequence[str]) -> tuple[float, ...]:
    """Log-probabilities of the two labels, in nats, from the reply to a chat completion.

    They are those of the first token, if it comes with its most probable alternatives and these include a label, with
    or without surrounding white space. A label that is not listed gets its upper bound: the probability of the last one
    listed, and no more than the listed ones leave. Otherwise the reply's text must be one label, or name just one of
    them; that one gets 0, and the other `NEVER`.

    Raises
    ------
    KeyError, IndexError, TypeError, ValueError
        If the reply is not a chat completion, or names no label or both.
    """
    choice = reply["choices"][0]
    tokens = (choice.get("logprobs") or {}).get("content") or []
    if tokens and (found := _listed(tokens[0], labels)):
        return found
    return _written(choice["message"]["content"] or "", labels)


def _listed(token: Mapping[str, Any], labels: Sequence[str]) -> tuple[float, ...] | None:
    entries = {entry["token"]: float(entry["logprob"]) for entry in [token, *(token.get("top_logprobs") or [])]}
    found = [[value for text, value in entries.items() if text.strip() == label] for label in labels]
    if not any(found):
        return None
    left = 1 - math.fsum(map(math.exp, entries.values()))
    unlisted = max(NEVER, min(min(entries.values()), math.log(left) if left > 0 else NEVER))
    return tuple(float(logsumexp(values)) if values else unlisted for values in found)


def _written(text: str, labels: Sequence[str]) -> tuple[float, ...]:
    alone = re.sub(r"^\W+|\W+$", "", text)
    named = [alone == label or re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text) is not None for label in labels]
    if alone in labels:
        named = [alone == label for label in labels]
    if sum(named) != 1:
        raise ValueError(f"it names {'both' if all(named) else 'none'} of {' and '.join(labels)}: '{text[:80]}'")
    return tuple(0.0 if is_named else NEVER for is_named in named)
