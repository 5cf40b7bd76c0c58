"""Which training objectives there are: their options, the data that they need, and where the loss is.

Nothing here needs torch; losses and readers of data are loaded when first used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from adaptive_samplers.config.fields import Section
from adaptive_samplers.references import Reference

if TYPE_CHECKING:
    from torch import Tensor

    # Logits [B, S] of a sampler at support points `t` with counts `n`; see `preference_of`.
    Predict = Callable[[Tensor, Tensor], Tensor]
    # From a predictor and a batch to a named tuple of means over the batch, of which training minimizes `loss`.
    Loss = Callable[[Predict, Any], Any]


@dataclass(frozen=True)
class Data:
    """A kind of data to train on.

    Attributes
    ----------
    name : str
        By which objectives request it.
    description : str
        What it is, in a sentence.
    reader : Reference
        A function `(training_set, sketch_shards) -> {split: data}`; of recorded draws, as `outcomes_of`. Data
        have a length, `t` and `n` [N, S] (log-probabilities in nats and counts, as of sketches),
        `select(index, device)`, which gives some of them, `measured_together`, how many are measured in one batch, and
        `fingerprint()`, a hash of the content; see `trainer.TokenSteps`.
    recorded : bool
        Whether it is made of the recorded draws of all answers; else of the sketches of those selected for training.
    """

    name: str
    description: str
    reader: Reference
    recorded: bool


@dataclass(frozen=True)
class Objective:
    """A training objective, as `objective` declares it.

    Attributes
    ----------
    name : str
        What configs call it: the name of its module.
    module : str
        The module that holds `loss`, a function `(options, predict, batch)` that returns a named tuple of means over
        the batch: `loss`, and anything else worth plotting.
    options : type of Section
        Its options, with limits and defaults.
    data : Data
        What it needs.
    """

    name: str
    module: str
    options: type[Section]
    data: Data

    @cached_property
    def loss(self) -> Callable[[Section, Predict, Any], Any]:
        """The function itself."""
        return import_module(self.module).loss

    def __call__(self, **options: Any) -> Loss:
        """The loss with these options. Raises pydantic's ValidationError if it does not accept them."""
        return partial(self.loss, self.options(**options))


def preference_of(predict: Predict) -> float | None:
    """The preference at which a sampler predicts, None of a sampler that takes none."""
    return getattr(predict, "preference", None)


DATA: dict[str, Data] = {}
OBJECTIVES: dict[str, Objective] = {}


def data(name: str, description: str, *, reader: str, recorded: bool = False) -> None:
    """Declare a kind of data; see `Data`. Raises TypeError if the reader is missing, or the name is taken."""
    if name in DATA or not description:
        raise TypeError(f"data '{name}' lacks a description, or a name of its own")
    try:
        DATA[name] = Data(name, description, Reference(reader), recorded)
    except TypeError as error:
        raise TypeError(f"data '{name}' lacks its reader: {error}") from error


def objective(module: str, *, needs: str) -> Callable[[type[Section]], type[Section]]:
    """Declare a training objective, as a decorator of its options.

    Parameters
    ----------
    module
        The module that holds its loss; the last part of its name is the objective's.
    needs
        The kind of data that it needs, by its name in `DATA`.

    Raises
    ------
    TypeError
        If something is missing; it says what.
    """

    def register(options: type[Section]) -> type[Section]:
        name = module.rpartition(".")[-1]
        missing = {
            "a docstring that says what is learned": not options.__dict__.get("__doc__"),
            f"the module {module}": find_spec(module) is None,
            f"data that there is ({', '.join(DATA)}), not {needs!r}": needs not in DATA,
            "a name of its own": name in OBJECTIVES,
            **{f"a default of {key}": field.is_required() for key, field in options.model_fields.items()},
        }
        if lacks := [what for what, is_missing in missing.items() if is_missing]:
            raise TypeError(f"objective '{name}' lacks {', '.join(lacks)}")
        OBJECTIVES[name] = Objective(name, module, options, DATA[needs])
        return options

    return register
