"""From a prompt to the request for several answers, and from the reply to the one answer that is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Self

from adaptive_samplers.engines.base import Completion, Engine, Request, cut_before
from adaptive_samplers.hashing import content_number
from adaptive_samplers.heuristics import Processor
from adaptive_samplers.randomness import uniforms
from adaptive_samplers.verbalized.parsing import UNPARSED, parse_verbalized, same_text

if TYPE_CHECKING:
    from adaptive_samplers.config.model.heuristics import Verbalized

# What a reply takes besides its answers, such as numbers and tags: tokens per answer.
FORMAT_TOKENS = 32


@dataclass(frozen=True)
class VerbalizedReply:
    """A reply and what was read in it: the column `reply` of a shard of candidates.

    Attributes
    ----------
    text : all that the model wrote.
    finish_reason : stop or length.
    answers, probabilities : the distinct answers, and their probabilities, which sum to 1.
    drawn : the index of the answer that was drawn; None if there is none.
    """

    text: str
    finish_reason: str
    answers: list[str]
    probabilities: list[float]
    drawn: int | None

    def describe(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


@dataclass(frozen=True)
class Asking:
    """How a model is asked for several answers.

    Attributes
    ----------
    answers : how many it is asked for.
    max_new_tokens : of the whole reply; None: `answers` times the longest answer, and `FORMAT_TOKENS` for each.
    template : what it is asked, with `{prompt}` and `{answers}`.
    """

    answers: int
    max_new_tokens: int | None
    template: str

    @classmethod
    def of(cls, step: Processor) -> Self:
        """What the step `verbalized` at the beginning of a pipeline says."""
        return cls(*step.values)

    @classmethod
    def configured(cls, entry: Verbalized) -> Self:
        """What an entry of `heuristics.verbalized` says."""
        return cls(entry.answers, entry.max_new_tokens, entry.template)

    def messages(self, messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
        """A conversation whose last message, the user's, asks for several answers."""
        *before, last = messages
        # The prompt last, so that braces in it are not replaced.
        asked = self.template.replace("{answers}", str(self.answers)).replace("{prompt}", last["content"])
        return [*before, {**last, "content": asked}]

    def limit(self, longest_answer: int) -> int:
        """The longest reply, in tokens, if an answer may have `longest_answer`."""
        return self.max_new_tokens or self.answers * (longest_answer + FORMAT_TOKENS)

    def read(self, completion: Completion, sample_seed: int) -> VerbalizedReply:
        """The answers in a reply, and which of them is drawn by the sample's own uniform number.

        Answers that the template itself holds, in the form that it shows, are echoes and are left out.
        """
        echoes = {same_text(text) for text, _ in parse_verbalized(self.template)}
        found = parse_verbalized(completion.text, cut=completion.finish_reason == "length")
        found = [(text, probability) for text, probability in found if same_text(text) not in echoes]
        total = math.fsum(probability for _, probability in found)
        # If only echoes had any probability, the others are equally likely.
        probabilities = [p / total if total else 1 / len(found) for _, p in found]
        return VerbalizedReply(
            completion.text,
            completion.finish_reason,
            [text for text, _ in found],
            probabilities,
            drawn_place(probabilities, draw_number(sample_seed)) if found else None,
        )


@dataclass(frozen=True)
class PromptedRequest:
    """An answer that is to be drawn from a reply.

    Attributes
    ----------
    plain : the ordinary request for an answer; it bounds the answer.
    sent : the request for the reply.
    """

    asking: Asking
    plain: Request
    sent: Request

    @classmethod
    def of(cls, asking: Asking, plain: Request, prompt_token_ids: tuple[int, ...]) -> Self:
        """From the plain request, and the prompt that asks for several answers."""
        # Strings that end an answer do not end a reply: they cut off the answer that is drawn.
        limit = asking.limit(plain.max_new_tokens)
        return cls(asking, plain, replace(plain, prompt_token_ids=prompt_token_ids, max_new_tokens=limit, stop=()))

    def answer(self, completion: Completion, engine: Engine) -> tuple[Completion, VerbalizedReply | None]:
        """The answer that a completion of `sent` holds, its log-probabilities left to be measured, and the reply.

        It is an error where the reply holds none; where the reply itself is an error, there is none.
        """
        if completion.finish_reason == "error":
            return completion, None
        reply = self.asking.read(completion, self.plain.sample_seed)
        if reply.drawn is None:
            return Completion(completion.index, error=why_unparsed(reply, self.asking.answers)), reply
        return drawn_answer(reply, engine, self.plain), reply


def draw_number(sample_seed: int) -> float:
    """The uniform number that draws among a reply's answers; those of the reply's own tokens are others."""
    return float(uniforms(content_number(["verbalized", sample_seed]), 1)[0])


def drawn_place(probabilities: Sequence[float], number: float) -> int:
    """The place that a uniform number in [0, 1) draws by the inverse CDF, in the order in which they are given."""
    sums = list(accumulate(probabilities))
    target = number * sums[-1]
    # Rounding may raise the target to the total sum.
    return next((place for place, reached in enumerate(sums) if reached > target), sums.index(sums[-1]))


def drawn_answer(reply: VerbalizedReply, engine: Engine, plain: Request) -> Completion:
    """The answer that was drawn, cut where the engine would have cut it: before a stop string, or as too long."""
    text = reply.answers[reply.drawn]
    cut = cut_before(text, plain.stop)
    text = text if cut is None else cut
    token_ids = engine.encode(text)
    if len(token_ids) <= plain.max_new_tokens:
        return Completion(0, token_ids, text, "stop")
    kept = token_ids[: plain.max_new_tokens]
    return Completion(0, kept, engine.decode(kept), "length")


def why_unparsed(reply: VerbalizedReply, wanted: int) -> str:
    """The error of a row whose reply holds no answer."""
    ended = "was cut at its longest" if reply.finish_reason == "length" else "ended by itself"
    return f"{UNPARSED}: {wanted} with probabilities were asked for; it has {len(reply.text)} characters and {ended}"
