"""Which architectures there are, and what other code needs to know about each.

Nothing here needs torch: a config is checked and figures are drawn without loading it. The class of an architecture is
loaded when first used.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from adaptive_samplers.config.fields import Section
from adaptive_samplers.errors import UserError
from adaptive_samplers.heuristics.pipelines import learned_heuristic
from adaptive_samplers.heuristics.registry import PREFERENCES, Numbers

if TYPE_CHECKING:
    from adaptive_samplers.samplers.base import AdaptiveSampler

# pydantic's names of limits, and those of `Numbers`.
_LIMITS = {"ge": "at_least", "gt": "above", "le": "at_most", "lt": "below"}


class Options(Section):
    """The options of an architecture: the arguments of its class that a config may set."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong with values that are each within their limits: an option's name, and what is wrong with it."""
        yield from ()


@dataclass(frozen=True)
class Architecture:
    """An architecture of samplers, as `architecture` declares it.

    Attributes
    ----------
    name : str
        The name of its class, by which configs, tables and `config.json` call it.
    module : str
        The module that holds the class.
    options : type of Options
        What a config may set, with limits and defaults.
    arguments : dict of str to Numbers or bool
        What each argument of the constructor may be: the options', and those of `constructor` where it has them.
    learning_rate : float
        The highest learning rate in the target `learnability`.
    color, marker : str
        How figures draw it: `#` and six hexadecimal digits, and a matplotlib marker.
    conditioned : bool
        Whether its samplers take a preference, so that one serves a whole front.
    named_only : bool
        Whether a config that names no architectures leaves it out.
    """

    name: str
    module: str
    options: type[Options]
    arguments: Mapping[str, Numbers | type[bool]]
    learning_rate: float
    color: str
    marker: str
    conditioned: bool = False
    named_only: bool = False

    @cached_property
    def sampler_class(self) -> type[AdaptiveSampler]:
        """The class itself. Raises TypeError if it does not take the declared arguments."""
        found = getattr(import_module(self.module), self.name)
        taken = {name: argument.default for name, argument in inspect.signature(found).parameters.items()}
        defaults = {name: field.default for name, field in self.options.model_fields.items()}
        if taken.keys() != self.arguments.keys() or defaults.items() - taken.items():
            raise TypeError(
                f"architecture '{self.name}' takes {taken}, and declares {list(self.arguments)} by default {defaults}"
            )
        return found

    def __call__(self, **arguments: Any) -> AdaptiveSampler:
        """A new sampler. Raises UserError if it does not take these arguments."""
        self.check(arguments)
        return self.sampler_class(**arguments)

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Raises UserError if the constructor does not take these arguments together; those left out have defaults."""
        self.check_each(arguments)
        # Not validated again, because the constructor may allow more than a config does.
        options = {name: arguments[name] for name in self.options.model_fields if name in arguments}
        for name, problem in self.options.model_construct(**options).problems():
            raise UserError(f"{self.name}: {name}: {problem}")

    def check_each(self, arguments: Mapping[str, Any]) -> None:
        """Raises UserError if there is no such argument, or it is out of its limits."""
        for name, value in arguments.items():
            if name not in self.arguments:
                raise UserError(f"{self.name} takes no {name!r}; it takes {', '.join(self.arguments)}")
            if not _is_allowed(value, allowed := self.arguments[name]):
                words = "true or false" if allowed is bool else allowed
                raise UserError(f"{self.name}: {name}: expected {words}, found {value!r}")


def _is_allowed(value: Any, allowed: Numbers | type[bool]) -> bool:
    """Whether an argument may have this value; a bool is not a number, and 2.0 is not an integer."""
    if allowed is bool or isinstance(value, bool):
        return allowed is bool and isinstance(value, bool)
    return isinstance(value, int if allowed.whole else int | float) and value in allowed


ARCHITECTURES: dict[str, Architecture] = {}


def architecture(
    module: str,
    *,
    learning_rate: float,
    color: str,
    marker: str,
    constructor: Mapping[str, Numbers] | None = None,
    conditioned: bool = False,
    named_only: bool = False,
) -> Callable[[type[Options]], type[Options]]:
    """Declare an architecture, as a decorator of its options, which have the name of its class.

    Parameters
    ----------
    module
        The module that holds the class.
    learning_rate, color, marker, conditioned, named_only
        See `Architecture`. No two architectures are drawn alike.
    constructor
        Numbers that the constructor takes and no config can set, and options in which it allows more than a config.

    Raises
    ------
    TypeError
        If something is missing or impossible; it says what.
    """

    def register(options: type[Options]) -> type[Options]:
        name = options.__name__
        own = {option: _allowed(field) for option, field in options.model_fields.items()}
        missing = {
            "a docstring that says what it sees": not options.__dict__.get("__doc__"),
            f"the module {module}": find_spec(module) is None,
            "a learning rate above 0 and at most 1": not 0 < learning_rate <= 1,
            "a color such as #0072B2": not re.fullmatch("#[0-9A-F]{6}", color),
            "a marker": not marker,
            "a name of its own": name in ARCHITECTURES,
            "a color and marker of its own": (color, marker) in [(a.color, a.marker) for a in ARCHITECTURES.values()],
            # Architectures are tiny; what is larger is a mistake, and might need more memory than there is.
            **{
                f"limits and a default of {option}": field.is_required() or not _is_bounded(own[option])
                for option, field in options.model_fields.items()
            },
        }
        if lacks := [what for what, is_missing in missing.items() if is_missing]:
            raise TypeError(f"architecture '{name}' lacks {', '.join(lacks)}")
        arguments = own | dict(constructor or {})
        ARCHITECTURES[name] = Architecture(
            name, module, options, arguments, learning_rate, color, marker, conditioned, named_only
        )
        return options

    return register


def checked_preference(value: Any) -> float:
    """A preference as a number. Raises UserError if it is none."""
    if not _is_allowed(value, PREFERENCES):
        raise UserError(f"preference: expected {PREFERENCES}, found {value!r}")
    return float(value)


def evaluated(
    folder: str, preferences: Sequence[float], temperatures: Sequence[float] = (1.0,)
) -> list[dict[str, str]]:
    """The rows of the `heuristics` table for a sampler saved in `.../{architecture}/{lesson}`.

    There is one for each temperature after it and, if its architecture takes any, each preference.
    """
    declared = ARCHITECTURES.get(PurePath(folder).parts[-2])
    at = preferences if declared and declared.conditioned else [None]
    return [learned_heuristic(folder, *setting) for setting in product(at, temperatures)]


def _allowed(field: Any) -> Numbers | type[bool]:
    """What an option may be."""
    if field.annotation is bool:
        return bool
    limits = {
        ours: getattr(limit, theirs)
        for limit in field.metadata
        for theirs, ours in _LIMITS.items()
        if hasattr(limit, theirs)
    }
    return Numbers(whole=field.annotation is int, **limits)


def _is_bounded(allowed: Numbers | type[bool]) -> bool:
    return allowed is bool or None not in (
        allowed.above if allowed.at_least is None else allowed.at_least,
        allowed.below if allowed.at_most is None else allowed.at_most,
    )
