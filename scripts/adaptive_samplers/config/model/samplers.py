"""The architectures to train, from their declarations."""

from pydantic import create_model

from adaptive_samplers.config.fields import Section, about, key
from adaptive_samplers.samplers import ARCHITECTURES

Samplers = create_model(
    "Samplers",
    __base__=Section,
    __doc__="The architectures to train, at least one: those named here, or all but "
    + ", ".join(f"`{name}`" for name, one in ARCHITECTURES.items() if one.named_only)
    + " if the key is left out. `null` removes one that an earlier config file names.",
    **{
        name: (architecture.options | None, key(about(architecture.options), default=None))
        for name, architecture in ARCHITECTURES.items()
    },
)

LearningRates = create_model(
    "LearningRates",
    __base__=Section,
    __doc__="Peak learning rates.",
    **{
        name: (float, key("Its peak learning rate, above 0.", default=architecture.learning_rate, gt=0, le=1))
        for name, architecture in ARCHITECTURES.items()
    },
)
