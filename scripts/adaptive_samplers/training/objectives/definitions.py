"""The training objectives, one declaration each, and the kinds of data that they need.

docs/add_a_training_objective.md explains how to add one.
"""

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
