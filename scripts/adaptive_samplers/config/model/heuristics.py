"""The sampling heuristics that compete."""

from typing import Annotated, Any

from pydantic import Field

from adaptive_samplers.config.fields import Section, key, section
from adaptive_samplers.config.model.types import Chain, Number, Step, Tokens


class GridBlock(Section):
    """A family of heuristics with all its values at all its temperatures."""

    family: str = key("Sampling heuristic, one of the families listed below.")
    values: (
        list[Annotated[Any, Field(json_schema_extra={"x-allowed": "a number, or a map of the family's parameters"})]]
        | None
    ) = key(
        "Settings of the family's parameters: a number each where it has one parameter, a map each where it "
        "has several; none where it has none. The family `temperature` takes its values from `temperatures`.",
        default=None,
        min_length=1,
    )
    temperatures: list[Number] = key(
        "Temperatures above 0, applied before the family's own step; 1 leaves the logits as they are.",
        default=[1.0],
        min_length=1,
    )


class Verbalized(Section):
    """Answers that the model is asked for in words, of which one is drawn."""

    answers: int = key("How many answers the model is asked for.", default=5, ge=2, le=100)
    pipeline: list[Step] = key(
        "How the reply is sampled; one chain of steps, as in `pipelines`.", default=[{"temperature": 1.0}], min_length=1
    )
    max_new_tokens: Tokens | None = key(
        "Longest reply in tokens; `null` takes, for each of the answers, generation.max_new_tokens and 32 "
        "more. The answer that is drawn is cut at generation.max_new_tokens.",
        default=None,
    )
    template: str = key(
        "What the model is asked, in place of the prompt's last message. `{prompt}`, that message, and "
        "`{answers}` must be in it.",
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
    """The sampling that the base model's makers recommend, swept over temperatures, as the family `official`. What
    the grid or the pipelines hold too is taken once, as official."""

    steps: list[Step] = key(
        "One chain of steps `family: setting`, as in `pipelines`, without its temperature; empty where there "
        "is no such family.",
        default=[],
    )
    temperatures: list[Number] = key(
        "Temperatures above 0, applied before the steps; 1 leaves the logits as they are.", default=[1.0], min_length=1
    )


class Heuristics(Section):
    """The sampling heuristics that compete; at least two, from the grid, the pipelines and the official sampling
    together."""

    grid: list[GridBlock] = key(
        "Families, each with every one of its values at every one of its temperatures.", default=[]
    )
    pipelines: list[Chain] = key(
        "Explicit chains, applied in the order given: lists of steps `family: setting`, where the setting is "
        "a number, a map of several parameters, or null for none. A step `learned: path` is a saved learned "
        "sampler, a folder with its `config.json` and `model.safetensors`, relative to the working directory.",
        default=[],
    )
    verbalized: list[Verbalized] = key(
        "Heuristics under which the model is asked for several answers with their probabilities, of which one"
        " is drawn (docs/verbalized_sampling.md). Their answers are compared like all others but train no "
        "sampler.",
        default=[],
    )
    official: Official = section(Official)
