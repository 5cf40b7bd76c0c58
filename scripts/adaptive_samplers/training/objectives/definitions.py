"""The training objectives, one declaration each, and the kinds of data that they need.

docs/add_a_training_objective.md explains how to add one.
"""

from typing import ClassVar, Literal

from adaptive_samplers.config.fields import Section, key
from adaptive_samplers.training.objectives.registry import data, objective

data(
    "targets",
    "Sketches of an answer's distributions, each with what the answer's own heuristic makes of it.",
    reader="training.replay:steps_of_splits",
)


@objective("adaptive_samplers.training.objectives.imitation", needs="targets")
class Imitation(Section):
    """Imitates the distribution that each answer's own heuristic makes, and avoids the tokens that it cuts away."""

    gamma: float = key("Weight of the predicted mass on truncated tokens in the loss.", default=1.0, ge=0)


data(
    "outcomes",
    "Recorded draws of all answers with what they were worth, and how probable all behaviors together made them.",
    reader="training.outcomes:outcomes_of",
    recorded=True,
)


class FromOutcomes(Section):
    """What objectives on recorded draws have in common: training begins with a heuristic, which is imitated."""

    # Whether diversity is the distance of answers from one another, rather than the label that an answer has.
    of_sets: ClassVar[bool] = False

    name: str | None = key(
        "What samplers are called after, where an objective is there twice; `null`: the kind.",
        default=None,
        pattern=r"^[a-z][a-z0-9_]{0,40}$",
        allowed="at most 41 small letters, digits and '_', beginning with a letter",
    )
    horizon: int | None = key(
        "Token-steps of each answer whose draws count; `null` takes as many as leave the heuristic that training "
        "begins with `effective` of the answers.",
        default=None,
        ge=1,
        le=100000,
    )
    effective: float = key(
        "Effective number of answers to a prompt, as a share of all, that a horizon must leave.",
        default=1 / 3,
        gt=0,
        lt=1,
    )
    sure: float | None = key(
        "Token-steps at which a token is more probable than this do not count; `null` counts all.",
        default=None,
        gt=0,
        lt=1,
    )
    start: str | None = key(
        "The heuristic that training begins with, by its name in the `heuristics` table; `null`: the best.",
        default=None,
    )
    rounds: bool = key(
        "Whether, in later generations of samplers, training goes on from the previous generation's sampler, if its "
        "own answers were better than those of what it began with (docs/iteration.md).",
        default=False,
    )
    accept_confidence: float = key(
        "Confidence of the interval of that difference, which must be above 0.", default=0.9, gt=0, lt=1
    )
    accept_prompts: int = key(
        "Validation prompts that the comparison needs; with fewer, no sampler is accepted.", default=100, ge=2
    )
    start_steps: int = key("Steps in which it is imitated.", default=300, ge=1, le=1000000)
    steps: int = key("Steps after that.", default=40, ge=1, le=1000000)
    prompts: int = key("Prompts in a batch, with all their answers.", default=64, ge=1, le=100000)
    learning_rate: float = key("Highest learning rate, above 0 and at most 1.", default=0.001, gt=0, le=1)


@objective("adaptive_samplers.training.objectives.outcome", needs="outcomes")
class Outcome(FromOutcomes):
    """Raises the estimated mean reward of the sampler's own answers, or that of the best of several. The weight of
    diversity is that of the mean distance of two answers of different seeds, 1 less the cosine of their embeddings."""

    of_sets = True

    best_of: int = key("The reward of the best of so many answers counts; with correctness, pass@k.", default=1, ge=1)
    front: Literal["diversity", "best_of"] = key(
        "What counts at a preference of 1, of a sampler that takes one; at 0 the mean reward does. `diversity` is the "
        "mean distance of two answers, without a weight of its own; `best_of` the reward of the best of so many.",
        default="diversity",
    )
    least_effective: float = key(
        "Effective number of answers to a prompt, as a share of all, below which a penalty begins.",
        default=0.2,
        gt=0,
        lt=1,
    )
    effective_penalty: float = key("Weight of that penalty.", default=1.0, ge=0)
    kl: float = key(
        "Weight of the divergence, in nats a step, from the sampler to the one that training began with.",
        default=0.0,
        ge=0,
    )
    entropy: float = key("Weight of a bonus for the sampler's entropy, in nats a step.", default=0.0, ge=0)
    weight_penalty: float = key("Weight of the squared logarithm of the mean weight.", default=1.0, ge=0)


@objective("adaptive_samplers.training.objectives.best_answers", needs="outcomes")
class BestAnswers(FromOutcomes):
    """Makes the tokens of the best answers more probable, while those of all answers to the prompt stay as probable."""

    best: float = key("Share of a prompt's answers that are best.", default=0.25, gt=0, le=1)
    hold: float = key(
        "Weight of the squared change, in nats a step, of the mean log-probability of all answers. Without it, "
        "samplers drift to the distribution that most answers were drawn from.",
        default=10.0,
        ge=0,
    )


@objective("adaptive_samplers.training.objectives.pairs", needs="outcomes")
class Pairs(FromOutcomes):
    """Prefers the best answer under a seed to the worst (DPO over the sampler's parameters, by the mean of a token)."""

    beta: float = key("How strongly a difference in log-probability counts, per token.", default=2.0, gt=0)
