"""A judge's model behind a server, such as SGLang's: the same numbers as in process."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

from scipy.special import logsumexp

from adaptive_samplers.config.model.judges import ModelJudgeSettings
from adaptive_samplers.labels.judges.calls import Continuation, Question, Result
from adaptive_samplers.serving.kinds import SERVERS
from adaptive_samplers.serving.pool import EndpointPool, Reply
from adaptive_samplers.serving.service import serve


class ServedScorer:
    """Sends each question as its own request.

    Parameters
    ----------
    pool : EndpointPool
    path : str
        Where the requests go.
    options : dict
        What each of them holds besides the question.
    values_of : callable
        Reads the numbers from a reply to a question; raises if it holds something else.
    asked : callable
        The part of a request that depends on its question.
    """

    def __init__(
        self,
        pool: EndpointPool,
        path: str,
        options: dict[str, Any],
        values_of: Callable[[Any, Any], tuple[float, ...]],
        asked: Callable[[Any], dict[str, Any]] = lambda token_ids: {"input_ids": list(token_ids)},
    ) -> None:
        self.pool = pool
        self.path = path
        self.options = options
        self.values_of = values_of
        self.asked = asked

    def score(self, questions: Sequence[Question]) -> Iterator[tuple[int, Result]]:
        """Yield the index of each question with its result, as replies arrive."""
        # Neighbors share prefixes, so the server finds most of a prompt in its cache.
        order = sorted(range(len(questions)), key=lambda place: questions[place])
        payloads = [{**self.options, **self.asked(questions[place])} for place in order]
        for index, reply in self.pool.run(self.path, payloads):
            yield order[index], self._result(questions[order[index]], reply)

    def _result(self, question: Question, reply: Reply) -> Result:
        if reply.error is not None:
            return Result(error=reply.error)
        try:
            return Result(self.values_of(reply.json, question))
        except (KeyError, IndexError, TypeError, ValueError) as problem:
            return Result(error=f"the server's reply cannot be read ({type(problem).__name__}: {problem})")


@contextmanager
def scorer_of(
    scorers: Mapping[str, Callable[[EndpointPool, Sequence[int]], ServedScorer]],
    settings: ModelJudgeSettings,
    folder: Path,
    log: Path,
    reads: str,
    token_ids: Sequence[int],
) -> Iterator[ServedScorer]:
    """The scorer of what a judge reads from its model, one of `scorers`, and the servers that it asks."""
    task = "embedding" if reads == "rewards" else "generate"
    with serve(SERVERS[settings.engine], getattr(settings, settings.engine), settings, folder, log, task) as pool:
        yield scorers[reads](pool, token_ids)


def one_reward(values: Sequence[float]) -> tuple[float, ...]:
    """The reward of a sequence, of which a server gives these numbers."""
    if len(values) != 1:
        raise ValueError(f"{len(values)} numbers instead of one: this is no reward model with one label")
    return (float(values[0]),)


def likelihood(values: Sequence[float], ends: Sequence[float]) -> tuple[float, ...]:
    """Mean of a continuation's log-probabilities, and that of any end after it, from those of each of its tokens."""
    end = float(logsumexp(ends))
    return fmean(values) if values else end, end


def open_served(
    settings: ModelJudgeSettings, folder: Path, log: Path, reads: str, token_ids: Sequence[int]
) -> AbstractContextManager[ServedScorer]:
    """The scorer of what a judge reads from its model, by SGLang."""
    return scorer_of(SCORERS, settings, folder, log, reads, token_ids)


def served_rewards(pool: EndpointPool, token_ids: Sequence[int] = ()) -> ServedScorer:
    """The reward of each sequence, from a server started for a model with one label."""
    return ServedScorer(pool, "/classify", {}, _reward)


def _reward(reply: Any, _: Question) -> tuple[float, ...]:
    return one_reward(reply["embedding"])


def served_labels(pool: EndpointPool, label_ids: Sequence[int]) -> ServedScorer:
    """Log-probabilities, in nats, of the tokens `label_ids` as the next one."""

    return ServedScorer(pool, "/generate", _next_token(label_ids), lambda reply, _: _next_of(reply, label_ids))


def served_likelihoods(pool: EndpointPool, end_ids: Sequence[int]) -> ServedScorer:
    """Log-probabilities, in nats: mean of each continuation's tokens, and of one of the tokens `end_ids` after them.

    If a continuation is empty, that of the end is used for the mean too.
    """

    def read(reply: Any, continuation: Continuation) -> tuple[float, ...]:
        # The first entry is for the token before the continuation, whose own value the server leaves out.
        entries = reply["meta_info"]["input_token_logprobs"][1:]
        wanted = continuation.token_ids[continuation.start :]
        # SGLang replaces the last token of the vocabulary by 0, as it does with image placeholders.
        same = [found in (token_id, 0) for (_, found, *_), token_id in zip(entries, wanted, strict=False)]
        if len(entries) != len(wanted) or not all(same):
            raise ValueError("its log-probabilities are of other tokens than were asked for")
        return likelihood([float(log_probability) for log_probability, *_ in entries], _next_of(reply, end_ids))

    def asked(continuation: Continuation) -> dict[str, Any]:
        return {"input_ids": list(continuation.token_ids), "logprob_start_len": continuation.start - 1}

    return ServedScorer(pool, "/generate", _next_token(end_ids), read, asked)


SCORERS = {"rewards": served_rewards, "labels": served_labels, "likelihoods": served_likelihoods}


def _next_token(token_ids: Sequence[int]) -> dict[str, Any]:
    """Request options for the next-token log-probabilities of some tokens, and those of the tokens read."""
    return {
        "sampling_params": {"max_new_tokens": 1, "temperature": 0},
        "return_logprob": True,
        "token_ids_logprob": list(token_ids),
    }


def _next_of(reply: Any, token_ids: Sequence[int]) -> tuple[float, ...]:
    (entries,) = reply["meta_info"]["output_token_ids_logprobs"]
    found = {token_id: float(log_probability) for log_probability, token_id, *_ in entries}
    return tuple(found[token_id] for token_id in token_ids)
