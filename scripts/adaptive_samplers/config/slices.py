"""The parts of a config that stages depend on, according to the config's model."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from adaptive_samplers.config.schema import Schema, branch_index, config_schema, kinds_of

# What answers, their labels and learned samplers come from: the config of these stages is part of a plan.
PLANNED_STAGES = (
    "collect_prompts",
    "expand_heuristics",
    "generate_candidates",
    "allocate_budget",
    "train_judge",
    "embed_candidates",
    "label_quality",
    "combine_quality",
    "label_diversity",
    "label_correctness",
    "score_candidates",
    "select_training_set",
    "replay_distributions",
    "record_draws",
    "train_sampler",
    "train_on_outcomes",
)


def slice_of_stage(config: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """The part of a complete config that a stage's output depends on, for the `params` of its rule.

    Returns a nested dict with sorted keys, so that equal slices are written alike; empty, if no key affects the stage.
    """
    return slice_of_stages(config, [stage])


def slice_of_stages(config: Mapping[str, Any], stages: Collection[str]) -> dict[str, Any]:
    """The part of a complete config that the outputs of any of some stages depend on."""
    return _picked(config, config_schema(), (), lambda affects, read_by: bool(set(stages) & set(affects)))


def unrelated_slice(config: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """The part of a complete config that a stage may read although its output does not depend on it."""
    return _picked(config, config_schema(), (), lambda affects, read_by: not affects or stage in read_by)


def affected_stages() -> set[str]:
    """The stages that some key affects."""
    return {stage for affects in _affects(config_schema(), ()) for stage in affects}


def _affects(schema: Schema, inherited: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    affects = tuple(schema.get("x-affects", inherited))
    yield affects
    for part in (*schema.get("properties", {}).values(), *schema.get("oneOf", ())):
        yield from _affects(part, affects)


def _picked(
    value: Mapping[str, Any],
    schema: Schema,
    inherited: tuple[str, ...],
    is_wanted: Callable[[tuple[str, ...], tuple[str, ...]], bool],
    read_by: tuple[str, ...] = (),
) -> dict[str, Any]:
    found = {}
    for key in sorted(value):
        part = schema["properties"][key]
        affects = tuple(part.get("x-affects", inherited))
        readers = tuple(part.get("x-read-by", read_by))
        is_map = isinstance(value[key], Mapping)
        is_of_a_kind = is_map and bool(kinds_of(part))
        if is_map and "oneOf" in part:
            part = part["oneOf"][branch_index(part, value[key])]
        if is_map and "properties" in part:
            inside = _picked(value[key], part, affects, is_wanted, readers)
            if inside:
                # Without its kind, the type of a section would be unknown.
                found[key] = _sorted(inside | ({"kind": value[key]["kind"]} if is_of_a_kind else {}))
        elif is_wanted(affects, readers):
            found[key] = _sorted(value[key])
    return found


def _sorted(value: Any) -> Any:
    """A copy of a value, with sorted keys."""
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
