"""The parts of a config's model: sections of keys, each declared once with everything other code needs to know.

From a declaration come the key's type, limits and default, its entry in the JSON schema for editors, its row in the
tables of config/README.md and docs/what_reruns.md, and whether it is in the `params` of a rule.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

# A default that means there is none: the key must be given.
REQUIRED: Any = ...


class Section(BaseModel):
    """A map of a config. Keys that it does not declare are refused, and nothing changes it.

    Scripts get a config of the keys that their stage depends on, and no others: reading another one is an
    AttributeError that names it; otherwise the rule's `params` would miss it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, protected_namespaces=())

    def __getattr__(self, name: str) -> Any:
        if name in type(self).model_fields:
            raise AttributeError(
                f"the params of this rule do not hold '{name}' of {type(self).__name__}: the key's declaration must "
                "name the stage in `affects`, or in `read_by` if its output does not depend on it"
            )
        return super().__getattr__(name)


def key(
    description: str,
    *,
    default: Any = REQUIRED,
    affects: tuple[str, ...] | None = None,
    read_by: tuple[str, ...] = (),
    adds_jobs_of: tuple[str, ...] = (),
    allowed: str | None = None,
    example: str | None = None,
    noun: str | None = None,
    unique: bool = False,
    path: bool = False,
    **limits: Any,
) -> Any:
    """Declare a key of a section.

    Parameters
    ----------
    description
        One or two sentences, in Markdown.
    default
        Used if a config leaves the key out; without one, the key is required.
    affects
        The stages whose output depends on the value, by their names in `versions`; they run again when it changes, and
        get it in their `params`. Left out, those of the section around it; an empty tuple means that no output
        depends on it, and every stage may read it.
    read_by
        Stages that read the value although their output does not depend on it.
    adds_jobs_of
        Stages that get another job for another value, while the jobs for the other values stay as they are.
    allowed
        The values that a pattern or a free type allows, in words.
    example
        What to write if a required key is missing.
    noun
        What the keys of a map stand for, such as `split`.
    unique
        Whether the items of a list must be distinct.
    path
        Whether the value is a path, or a list of paths, in which `~` stands for the home folder.
    **limits
        Limits as pydantic's `Field` takes them: `ge`, `gt`, `le`, `lt`, `min_length`, `max_length`, `pattern`.
    """
    notes = _notes(affects, read_by, adds_jobs_of, allowed, example, noun, unique, path)
    return Field(default, description=description, json_schema_extra=notes, **limits)


def named(noun: str) -> ConfigDict:
    """What a section says that is used in several places: what its keys stand for."""
    return ConfigDict(json_schema_extra={"x-noun": noun})


def about(kind: type[Section]) -> str:
    """A section's description, which is its docstring."""
    return " ".join((kind.__doc__ or "").split())


def section(
    kind: type[Section],
    *,
    description: str | None = None,
    affects: tuple[str, ...] | None = None,
    read_by: tuple[str, ...] = (),
    noun: str | None = None,
) -> Any:
    """Declare a section within another one, which has its keys' defaults if it is left out; as `key` does."""
    notes = _notes(affects, read_by, (), None, None, noun, False, False)
    return Field(default_factory=kind, description=description or about(kind), json_schema_extra=notes)


def _notes(
    affects: tuple[str, ...] | None,
    read_by: tuple[str, ...],
    adds_jobs_of: tuple[str, ...],
    allowed: str | None,
    example: str | None,
    noun: str | None,
    unique: bool,
    path: bool,
) -> dict[str, Any]:
    """What a key declares in addition to what pydantic knows, by its name in the JSON schema."""
    notes = {
        "x-affects": None if affects is None else list(affects),
        "x-read-by": list(read_by) or None,
        "x-adds-jobs-of": list(adds_jobs_of) or None,
        "x-allowed": allowed,
        "x-example": example,
        "x-noun": noun,
        "uniqueItems": unique or None,
        "x-path": path or None,
    }
    return {name: note for name, note in notes.items() if note is not None}
