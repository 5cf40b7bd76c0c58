"""What ways of sampling make of a model's distributions, token by token along one answer.

The answer is drawn as every engine draws it: by `draw_tokens`, with the uniform numbers of the prompt and seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from adaptive_samplers.engines.base import cut_before
from adaptive_samplers.engines.drawing import Draws, draw_tokens
from adaptive_samplers.errors import UserError
from adaptive_samplers.explain.ways import RAW, TARGET, Mixture, Way
from adaptive_samplers.hashing import content_id
from adaptive_samplers.heuristics import (
    Pipeline,
    State,
    apply_to_logits,
    draw,
    initial_state,
    is_stateful,
    next_states,
    sort_logits,
)
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.randomness import sample_seed

ROWS_AT_ONCE = 32  # distributions over the vocabulary


@dataclass(frozen=True)
class Token:
    """A token: its id, and its text alone, in which the bytes of a part of a character are U+FFFD."""

    id: int
    text: str


@dataclass(frozen=True)
class Seen:
    """What one way makes of one distribution.

    Attributes
    ----------
    probabilities : list of float
        Of the shown tokens, in their order; 0 where the token is removed.
    rest : float
        The probability of all other tokens.
    entropy : float
        Shannon entropy, nats.
    kept : int
        How many tokens have a probability above 0.
    kept_mass : float
        Their probability under the raw logits.
    divergence : float or None
        KL(target || this) over the vocabulary, nats, infinite where this removes a token of the target; None without a
        target.
    drawn : Token
        What is drawn with the step's uniform number.
    low, high : float
        The part of [0, 1) in which a uniform number draws it: tokens stand in the order of their raw logits, the most
        probable first, those with equal logits in the order of their ids.
    """

    probabilities: list[float]
    rest: float
    entropy: float
    kept: int
    kept_mass: float
    divergence: float | None
    drawn: Token
    low: float
    high: float


@dataclass(frozen=True)
class Step:
    """One token of the answer.

    Attributes
    ----------
    uniform : float
        The number in [0, 1) that all draws share.
    token : Token
        The answer's.
    surprise : float
        Minus the log of its probability under the raw logits, nats.
    shown : list of Token
        The most probable ones under the raw logits, in the order of the draw, and after them the answer's if it is none
        of them.
    rank : int
        The place of the answer's token in the order of the draw; 0 is the most probable.
    seen : list of Seen
        What each of the ways that are compared makes of the distribution, in their order.
    greedy : Token
        The most probable token.
    others : list of Seen
        The same of each of the other ways, in their order.
    """

    uniform: float
    token: Token
    surprise: float
    shown: list[Token]
    rank: int
    seen: list[Seen]
    greedy: Token
    others: list[Seen]


@dataclass(frozen=True)
class Explanation:
    """An answer, and what each way would have done at each of its tokens.

    Attributes
    ----------
    messages : the conversation that was answered.
    ways : list of Way
        Those that are compared: the raw logits, the mixture that is the target if there is one, chains and samplers.
    target : int or None
        Which of them is the target.
    followed : int
        Which of them drew the answer.
    others : list of Way
        Those of which the draws alone matter.
    seed : the seed of its uniform numbers, as in a run.
    finish_reason : str
        `stop` or `length`.
    text : str
        The answer; its end-of-turn token, which has a step, is none of it.
    vocabulary : int
        How many tokens there are.
    """

    messages: list[dict[str, str]]
    ways: list[Way]
    target: int | None
    followed: int
    others: list[Way]
    seed: int
    finish_reason: str
    text: str
    vocabulary: int
    steps: list[Step]


@dataclass(frozen=True)
class Asked:
    """What is to be explained.

    Attributes
    ----------
    messages : the conversation to answer.
    ways : chains and samplers to compare, besides the raw logits.
    others : of which only the draws matter.
    followed : the way that draws the answer: one of `ways`, or `RAW`.
    mixture : the target, if the samplers imitated one; otherwise the first chain is the target of samplers.
    seed : as in the config's `seeds`.
    run_seed : `run.seed`.
    tokens : at most so many.
    top : tokens shown of each distribution.
    stop : strings that end an answer.
    """

    messages: list[dict[str, str]]
    ways: Sequence[Way]
    others: Sequence[Way]
    followed: Way
    mixture: Mixture | None = None
    seed: int = 0
    run_seed: int = 20260101
    tokens: int = 24
    top: int = 12
    stop: tuple[str, ...] = ()


def explain(model: LanguageModel, asked: Asked) -> Explanation:
    """Draw an answer, and say what each way would have done at each of its tokens.

    A way whose heuristic remembers earlier tokens follows the answer as if it had drawn it; of a token that it had
    removed it takes the nearest one that was left (see `apply_along_answers`).

    Raises
    ------
    UserError
        If prompt and answer exceed the model's context, or its logits are not finite.
    """
    prompt = tuple(model.encode_chat(asked.messages))
    if reason := model.refuse(len(prompt), asked.tokens):
        raise UserError(reason)
    mixture = [Way(f"{TARGET}: {asked.mixture.name}", TARGET)] if asked.mixture else []
    ways = [RAW, *mixture, *asked.ways]
    chains = [place for place, way in enumerate(ways) if way.kind == "chain"]
    has_samplers = any(way.kind == "sampler" for way in ways)
    target = 1 if mixture else next(iter(chains), None) if has_samplers else None
    stepper = _Stepper(model, asked, ways, target)
    token_ids, finish_reason, steps = [], "length", []
    with torch.inference_mode():
        tokens, mask = model.left_padded([prompt])
        cache = DynamicCache()
        while len(token_ids) < asked.tokens:
            step = stepper.step(model.next_logits(tokens, mask, cache))
            steps.append(step)
            if step.token.id in model.end_token_set:
                finish_reason = "stop"
                break
            token_ids.append(step.token.id)
            if cut_before(model.decode(token_ids), asked.stop) is not None:
                finish_reason = "stop"
                break
            tokens = torch.tensor([[step.token.id]], device=model.device)
            mask = torch.cat([mask, torch.ones_like(tokens)], dim=1)
    text = model.decode(token_ids)
    cut = cut_before(text, asked.stop)
    return Explanation(
        asked.messages,
        ways,
        target,
        ways.index(asked.followed),
        list(asked.others),
        asked.seed,
        finish_reason,
        text if cut is None else cut,
        stepper.vocabulary,
        steps,
    )


class _Stepper:
    """All ways along one answer, with what they remember of it."""

    def __init__(self, model: LanguageModel, asked: Asked, ways: Sequence[Way], target: int | None) -> None:
        self.model, self.top, self.target, self.mixture = model, asked.top, target, asked.mixture
        self.compared = len(ways)
        # Without the mixture, which is no pipeline.
        drawing = [way for way in (*ways, *asked.others) if way.kind != TARGET]
        self.followed = drawing.index(asked.followed)
        key = sample_seed(asked.run_seed, content_id(asked.messages), asked.seed)
        self.draws = [Draws.start(way.pipeline, key, asked.tokens) for way in drawing]
        self.mixed = list(asked.mixture.shares) if asked.mixture else []
        self.mixed_states = [initial_state(pipeline) for pipeline in self.mixed]
        self.place = 0
        self.vocabulary = 0
        self.texts: dict[int, str] = {}

    def step(self, logits: Tensor) -> Step:
        """The next token, by the logits [1, V] before it."""
        log_probs = torch.log_softmax(logits.float(), dim=-1)
        if not log_probs.amax().isfinite():
            raise UserError(
                f"the model's logits after {self.place} tokens of the answer are not finite; set model.dtype to "
                "bfloat16 or float32"
            )
        self.vocabulary = log_probs.shape[1]
        pipelines, states = [one.pipeline for one in self.draws], [one.state for one in self.draws]
        probabilities = _probabilities(log_probs, pipelines, states)
        drawn = draw_tokens(log_probs, [0] * len(self.draws), self.draws, [self.place] * len(self.draws)).token_ids
        uniform, token = self.draws[0].uniforms[self.place], drawn[self.followed]
        raw, order = log_probs[0].cpu(), sort_logits(log_probs)[1][0].cpu()
        for one, state in zip(self.draws, _after(token, raw, pipelines, states, probabilities), strict=True):
            # The followed way's own state is what generation would have.
            if one is not self.draws[self.followed]:
                one.state = state
        if self.mixed:
            parts = _probabilities(log_probs, self.mixed, self.mixed_states)
            shares = torch.tensor(list(self.mixture.shares.values()), dtype=parts.dtype)
            mixed = (shares @ parts)[None]
            self.mixed_states = _after(token, raw, self.mixed, self.mixed_states, parts)
            place = int(draw(mixed[:, order].log(), uniform[None]))
            probabilities = torch.cat([probabilities[:1], mixed, probabilities[1:]])
            drawn = [drawn[0], int(order[place]), *drawn[1:]]
        self.place += 1
        return self._described(probabilities, drawn, order, token, float(uniform), float(-raw[token]))

    def _described(
        self, probabilities: Tensor, drawn: Sequence[int], order: Tensor, token: int, uniform: float, surprise: float
    ) -> Step:
        """A step, of the probabilities [R, V] that each way gives all tokens, and what it drew."""
        rank = int((order == token).nonzero())
        shown = order[: self.top].tolist()
        shown += [token] if rank >= self.top else []
        upto = probabilities[:, order].cumsum(-1)
        places = (order == torch.tensor(drawn)[:, None]).nonzero()[:, 1]
        high = upto.gather(1, places[:, None]).squeeze(1)
        low = high - probabilities.gather(1, torch.tensor(drawn)[:, None]).squeeze(1)
        raw, left = probabilities[0], probabilities > 0
        divergences: list[float | None] = [None] * len(drawn)
        if self.target is not None:
            wanted = probabilities[self.target]
            terms = torch.xlogy(wanted, wanted) - torch.xlogy(wanted, probabilities)
            divergences = terms.sum(-1).clamp(min=0).tolist()
        rest = probabilities.index_fill(1, torch.tensor(shown), 0.0).sum(-1)
        seen = [
            Seen(of_shown, of_others, entropy, kept, kept_mass, divergence, self._token(one), *span)
            for of_shown, of_others, entropy, kept, kept_mass, divergence, one, *span in zip(
                probabilities[:, shown].tolist(),
                rest.tolist(),
                (-torch.xlogy(probabilities, probabilities)).sum(-1).clamp(min=0).tolist(),
                left.sum(-1).tolist(),
                (raw * left).sum(-1).tolist(),
                divergences,
                drawn,
                low.clamp(min=0).tolist(),
                high.tolist(),
                strict=True,
            )
        ]
        return Step(
            uniform,
            self._token(token),
            surprise,
            [self._token(one) for one in shown],
            rank,
            seen[: self.compared],
            self._token(int(order[0])),
            seen[self.compared :],
        )

    def _token(self, token_id: int) -> Token:
        if token_id not in self.texts:
            self.texts[token_id] = self.model.tokenizer.decode([token_id])
        return Token(token_id, self.texts[token_id])


def _probabilities(log_probs: Tensor, pipelines: Sequence[Pipeline], states: Sequence[State]) -> Tensor:
    """What each of R pipelines makes of a distribution [1, V]: probabilities [R, V], float64 on the CPU."""
    parts = []
    for first in range(0, len(pipelines), ROWS_AT_ONCE):
        some = pipelines[first : first + ROWS_AT_ONCE]
        rows = log_probs.expand(len(some), -1)
        parts.append(apply_to_logits(rows, some, states[first : first + ROWS_AT_ONCE]).cpu().double().softmax(-1))
    return torch.cat(parts)


def _after(
    token: int, raw: Tensor, pipelines: Sequence[Pipeline], states: Sequence[State], probabilities: Tensor
) -> list[State]:
    """The states after a token of the answer, whichever way drew it; `raw` are the log-probabilities [V]."""
    followed = list(states)
    for place, pipeline in enumerate(pipelines):
        if is_stateful(pipeline):
            distance = (raw - raw[token]).abs().masked_fill(probabilities[place] <= 0, torch.inf)
            log_prob = probabilities[place, distance.argmin()].log()[None]
            [followed[place]] = next_states([pipeline], [states[place]], log_prob)
    return followed
