"""The input and output of every engine."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from adaptive_samplers.hashing import file_sha256
from adaptive_samplers.heuristics import Pipeline

if TYPE_CHECKING:
    from adaptive_samplers.off_policy.draws import RecordedDraws


@dataclass(frozen=True)
class Recording:
    """What is kept of an answer's draws: those of its first `steps` token-steps, or of all.

    `top` and `tail` are those of `DistributionSketch.from_logits`.
    """

    top: int
    tail: int
    steps: int | None


@dataclass(frozen=True)
class Request:
    """One answer to be sampled.

    Attributes
    ----------
    prompt_token_ids : tuple of int
        The prompt, chat template applied.
    pipeline : Pipeline
        Turns raw logits into the logits to draw from.
    sample_seed : int
        The key of the answer's uniform numbers (see `randomness`).
    max_new_tokens : int
        The answer is cut off after this many tokens.
    stop : tuple of str
        Strings that end the answer; the text is cut before them.
    given : tuple of int, or None
        The answer's tokens, if they are known and only their log-probabilities are wanted: nothing is drawn.
    recording : Recording, or None
        What to keep of the draws. Engines that are not declared to record draws keep nothing.
    """

    prompt_token_ids: tuple[int, ...]
    pipeline: Pipeline
    sample_seed: int
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    given: tuple[int, ...] | None = None
    recording: Recording | None = None

    @classmethod
    def reading(cls, prompt_token_ids: tuple[int, ...], token_ids: Sequence[int]) -> "Request":
        """A request for the log-probabilities of a given answer."""
        return cls(prompt_token_ids, (), 0, len(token_ids), given=tuple(token_ids))


@dataclass
class Completion:
    """The answer to the request at position `index`.

    `finish_reason` is stop, length or error; an error has its message and never looks like an empty answer.
    Log-probabilities are the raw language model's, in nats: `token_logprobs` of each answer token, and `end_logprobs`,
    one longer, of an end-of-turn token before the first answer token and after each. `draws` are those of the steps
    that the request wants recorded, as one answer.
    """

    index: int
    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: str = "error"
    error: str | None = None
    token_logprobs: list[float] | None = None
    end_logprobs: list[float] | None = None
    draws: "RecordedDraws | None" = None


def cut_before(text: str, stop: Sequence[str]) -> str | None:
    """The text before the first string that ends an answer, or None if it contains none."""
    places = [text.find(one) for one in stop if one in text]
    return text[: min(places)] if places else None


class Engine(Protocol):
    """Samples answers. An answer depends only on its request, not on others in flight."""

    name: str

    def encode_chat(self, messages: list[dict[str, str]]) -> list[int]:
        """The token ids of a conversation, chat template applied, up to where the answer begins."""
        ...

    def encode(self, text: str) -> list[int]:
        """The token ids of a text as an answer, without an end-of-turn token."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of an answer."""
        ...

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield completions as answers finish, in any order, one for each request."""
        ...


def kept_open(engine: Engine) -> AbstractContextManager[Engine]:
    """An engine for many calls of `generate`: one that starts a server for a call keeps it running for all of them.

    An engine of which this holds has a method `kept_open`, which gives such an engine.
    """
    own = getattr(engine, "kept_open", None)
    return nullcontext(engine) if own is None else own()


def sampler_hashes(pipelines: Iterable[Pipeline]) -> dict[str, str]:
    """Hashes of the learned samplers' weights by path: a retrained sampler is a different one."""
    paths = {step.folder for pipeline in pipelines for step in pipeline if step.name == "learned"}
    return {path: file_sha256(Path(path) / "model.safetensors") for path in sorted(paths)}
