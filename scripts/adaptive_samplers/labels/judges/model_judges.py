"""Judges that ask a model: one in a folder, which an engine runs, or an external one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from adaptive_samplers.engines.registry import ENGINES
from adaptive_samplers.hashing import content_id
from adaptive_samplers.labels.judges.base import Case, Judge
from adaptive_samplers.labels.judges.calls import Calls, Scorer
from adaptive_samplers.labels.judges.encoding import ChatEncoder
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.models.fetch import model_hash
from adaptive_samplers.partfile import PartFile
from adaptive_samplers.stage import say
from adaptive_samplers.versions import STAGE_VERSIONS

# What the answers of a judge's model depend on, besides its files.
CALL_SETTINGS = ("kind", "engine", "dtype", "labels")
# Context tokens that SGLang reserves; they are reserved in process too, so that the same calls fail.
RESERVED_TOKENS = 8

JudgeMaker = Callable[..., Judge]  # of settings, prompts, calls and encoder


def ask_model(
    case: Case, make: JudgeMaker, reads: str, tokens: Callable[[ChatTokenizer, ChatEncoder], Sequence[int]]
) -> AbstractContextManager[Judge]:
    """A judge that asks its model in a folder through the engine of its settings.

    Parameters
    ----------
    case : Case
    make : callable
        Makes the judge from settings, prompts, calls and encoder.
    reads : str
        What is read from the model: `rewards`, or the log-probabilities of `labels` or of continuations, `likelihoods`.
    tokens : callable
        Which tokens' next-token probabilities are read.
    """
    settings, folder = case.settings, Path(case.inputs["judge_model"])
    tokenizer = ChatTokenizer(folder, settings.trust_remote_code)
    encoder = ChatEncoder(tokenizer, settings)
    limits = [settings.max_length, tokenizer.context_length and tokenizer.context_length - RESERVED_TOKENS]
    max_length = min((limit for limit in limits if limit is not None), default=None)
    source = [model_hash(folder), {key: getattr(settings, key, None) for key in CALL_SETTINGS}]
    engine, log = ENGINES[settings.engine].for_judges, case.log.with_suffix(".server.log")
    open_scorer = partial(engine.opened_by, settings, folder, log, reads, tokens(tokenizer, encoder))
    return asking(case, make, source, encoder, max_length, open_scorer)


@contextmanager
def asking(
    case: Case,
    make: JudgeMaker,
    source: Sequence[Any],
    encoder: Any,
    max_length: int | None,
    open_scorer: Callable[[], AbstractContextManager[Scorer]],
) -> Iterator[Judge]:
    """A judge whose calls are kept in a part file until the block ends without an error.

    Parameters
    ----------
    case, make : as in `ask_model`.
    source : what the answers of the model depend on.
    encoder : turns a conversation into what the scorer reads.
    max_length, open_scorer : as in `Calls`.
    """
    fingerprint = content_id([STAGE_VERSIONS["label_quality"], *source])
    with PartFile(case.output, fingerprint) as part, Calls(open_scorer, part, max_length) as calls:
        if found := calls.measured()["calls_found"]:
            say(f"{found} calls of the judge were answered before; going on with the rest")
        yield make(case.settings, case.prompts, calls, encoder)
        part.remove()
