"""A judge's model behind SGLang: the same numbers as in process, asked for by token ids."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from adaptive_samplers.labels.judges.calls import Result
from adaptive_samplers.serving.pool import EndpointPool


class ServedScorer:
    """Sends each sequence as a request of its own.

    Parameters
    ----------
    pool : EndpointPool
    path : str
        Where the requests go.
    options : dict
        What each of them holds beside its token ids.
    values_of : callable
        Reads the numbers off a reply; raises where it holds something else.
    """

    def __init__(
        self, pool: EndpointPool, path: str, options: dict[str, Any], values_of: Callable[[Any], tuple[float, ...]]
    ) -> None:
        self.pool = pool
        self.path = path
        self.options = options
        self.values_of = values_of

    def score(self, sequences: Sequence[Sequence[int]]) -> Iterator[tuple[int, Result]]:
        """Yield the place of each sequence with its result, as replies come."""
        # Neighbors begin alike, so that the server finds most of a prompt in its cache.
        order = sorted(range(len(sequences)), key=lambda place: sequences[place])
        payloads = [{**self.options, "input_ids": list(sequences[place])} for place in order]
        for index, reply in self.pool.run(self.path, payloads):
            yield order[index], self._result(reply.json, reply.error)

    def _result(self, reply: Any, error: str | None) -> Result:
        if error is not None:
            return Result(error=error)
        try:
            return Result(self.values_of(reply))
        except (KeyError, IndexError, TypeError, ValueError) as problem:
            return Result(error=f"the server's reply cannot be read ({type(problem).__name__}: {problem})")


def served_rewards(pool: EndpointPool) -> ServedScorer:
    """The reward of each sequence, from a server started for a model with one label."""
    return ServedScorer(pool, "/classify", {}, _reward)


def _reward(reply: Any) -> tuple[float, ...]:
    values = reply["embedding"]
    if len(values) != 1:
        raise ValueError(f"{len(values)} numbers instead of one: this is no reward model with one label")
    return (float(values[0]),)


def served_labels(pool: EndpointPool, label_ids: Sequence[int]) -> ServedScorer:
    """Log-probabilities, in nats, of the tokens `label_ids` as the next one."""

    def log_probabilities(reply: Any) -> tuple[float, ...]:
        (entries,) = reply["meta_info"]["output_token_ids_logprobs"]
        found = {token_id: float(log_probability) for log_probability, token_id, *_ in entries}
        return tuple(found[label] for label in label_ids)

    options = {
        "sampling_params": {"max_new_tokens": 1, "temperature": 0},
        "return_logprob": True,
        "token_ids_logprob": list(label_ids),
    }
    return ServedScorer(pool, "/generate", options, log_probabilities)
