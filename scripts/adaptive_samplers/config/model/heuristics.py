"""The sampling heuristics that compete."""

from typing import Annotated, Any

from pydantic import Field

from adaptive_samplers.config.fields import Section, key, section
from adaptive_samplers.config.model.types import Chain, Number, Step, Tokens


class GridBlock(Section):
    """A family of heuristics: every value at every temperature."""

    family: str = key("Sampling heuristic, one of the families listed below.")
    values: (
        list[Annotated[Any, Field(json_schema_extra={"x-allowed": "a number, or a map of the family's parameters"})]]
        | None
    ) = key(
        "Settings of the family: numbers if it has one parameter, maps if it has several; left out if it has "
        "none. The family `temperature` takes its values from `temperatures`.",
        default=None,
        min_length=1,
    )
    temperatures: list[Number] = key(
        "Temperatures above 0, applied before the family's own step; 1 leaves the logits as they are.",
        default=[1.0],
        min_length=1,
    )


class Verbalized(Section):
    """Verbalized sampling: the model is asked for several answers, and one of them is drawn."""

    answers: int = key("Number of answers the model is asked for.", default=5, ge=2, le=100)
    pipeline: list[Step] = key(
        "How the reply is sampled: one chain of steps, as in `pipelines`.", default=[{"temperature": 1.0}], min_length=1
    )
    max_new_tokens: Tokens | None = key(
        "Longest reply in tokens; `null` takes generation.max_new_tokens and 32 more for each answer. The answer "
        "that is drawn is cut at generation.max_new_tokens.",
        default=None,
    )
    template: str = key(
        "Replaces the prompt's last message. It must contain `{prompt}` (that message) and `{answers}`.",
        default="{prompt}\n"
        "\n"
        "Give {answers} different responses to this, sampled at random from all that you could give. Write each "
        "in a tag of its own, with its text and its probability, a number between 0 and 1, in this form and with "
        "nothing around it:\n"
        "\n"
        "<response><text>...</text><probability>...</probability></response>",
        min_length=1,
    )


class Official(Section):
    """The sampling that the base model's developers recommend, swept over temperatures, as the family `official`. A
    heuristic that is also in the grid or the pipelines is taken once, as official."""

    steps: list[Step] = key(
        "One chain of steps `family: setting`, as in `pipelines`, without a temperature; empty for no such family.",
        default=[],
    )
    temperatures: list[Number] = key(
        "Temperatures above 0, applied before the steps; 1 leaves the logits as they are.", default=[1.0], min_length=1
    )


class Heuristics(Section):
    """The sampling heuristics that compete: at least two from grid, pipelines and official sampling together."""

    grid: list[GridBlock] = key("Families, each with all its values at all its temperatures.", default=[])
    pipelines: list[Chain] = key(
        "Chains of steps `family: setting`, applied in order. The setting is a number, a map of several "
        "parameters, or null for none. A step `learned: path` is a saved sampler: a folder with its "
        "`config.json` and `model.safetensors`, relative to the working directory; one that takes a preference may be "
        "written `learned: {path: folder, preference: 0.3}`.",
        default=[],
    )
    verbalized: list[Verbalized] = key(
        "Heuristics that ask the model for several answers with their probabilities and draw one "
        "(docs/verbalized_sampling.md). Their answers are compared like all others but train no sampler.",
        default=[],
    )
    official: Official = section(Official)
