"""A complete config, or a slice of one, as the typed object that scripts and the library read."""

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from adaptive_samplers.config.fields import Section
from adaptive_samplers.config.model import Config

Kind = TypeVar("Kind", bound=Section)


def typed_config(config: Mapping[str, Any]) -> Config:
    """A complete config, or a slice of one, as a `Config`. To read a key that a slice lacks is an AttributeError."""
    return typed_section(config, Config)


def typed_section(values: Mapping[str, Any], kind: type[Kind]) -> Kind:
    """Some or all of the checked values of a section; unlike pydantic's own constructors, without defaults for others.

    A section without any given value is present too, so that an error names the missing key.
    """
    given = {}
    for name, field in kind.model_fields.items():
        if name in values:
            given[name] = _typed(values[name], field.annotation)
        elif field.default_factory is not None:
            given[name] = typed_section({}, field.default_factory)
    section = kind.__new__(kind)
    object.__setattr__(section, "__dict__", given)
    object.__setattr__(section, "__pydantic_fields_set__", set(given))
    object.__setattr__(section, "__pydantic_extra__", None)
    object.__setattr__(section, "__pydantic_private__", None)
    return section


def _typed(value: Any, annotation: Any) -> Any:
    if isinstance(value, Mapping):
        kinds = [part for part in _parts(annotation) if isinstance(part, type) and issubclass(part, Section)]
        if len(kinds) > 1:
            kinds = [kind for kind in kinds if value["kind"] in get_args(kind.model_fields["kind"].annotation)]
        return typed_section(value, kinds[0]) if kinds else dict(value)
    if isinstance(value, list):
        item = next((get_args(part)[0] for part in _parts(annotation) if get_origin(part) is list), Any)
        return [_typed(entry, item) for entry in value]
    return value


def _parts(annotation: Any) -> Iterator[Any]:
    """The alternatives of a type, or the type itself."""
    if get_origin(annotation) is Annotated:
        yield from _parts(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation
