"""The architectures to train, as they are declared."""

from pydantic import create_model

from adaptive_samplers.config.fields import Section, about, key
from adaptive_samplers.samplers import ARCHITECTURES

Samplers = create_model(
    "Samplers",
    __base__=Section,
    __doc__="The architectures to train, at least one: those that are named here, or all where the key is left out. "
    "`null` leaves out one that a file below this one names.",
    **{
        name: (architecture.options | None, key(about(architecture.options), default=None))
        for name, architecture in ARCHITECTURES.items()
    },
)

LearningRates = create_model(
    "LearningRates",
    __base__=Section,
    __doc__="Highest learning rates.",
    **{
        name: (float, key("For this architecture, above 0.", default=architecture.learning_rate, gt=0, le=1))
        for name, architecture in ARCHITECTURES.items()
    },
)
