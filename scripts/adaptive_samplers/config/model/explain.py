"""What the pages of the target `explain` show."""

from typing import Annotated

from pydantic import Field

from adaptive_samplers.config.fields import Section, key
from adaptive_samplers.config.model.types import Chain, Seed, Text


class Explain(Section):
    """The target `explain`: pages that show, token by token, how samplers change the base model's distributions, and
    what each would have drawn (docs/explain.md)."""

    prompts: list[Text] = key(
        "Prompts to answer, each on a page of its own, `explain/{number}.html`, numbered from 1.",
        default=["Write one sentence about the sea at night."],
        min_length=1,
        unique=True,
        affects=(),
        adds_jobs_of=("explain_prompt",),
    )
    samplers: list[Text] | None = key(
        "Learned samplers to show, `{architecture}/{weights}_top{k}` as in `results/{run}/samplers/`; the first one "
        "draws the answers. `null` takes those that are trained like the run's first; an empty list, for which nothing "
        "is trained, shows chains alone.",
        default=None,
        unique=True,
        affects=(),
    )
    chains: list[Chain] = key(
        "Chains of heuristics to show beside them, as in `heuristics.pipelines`; the first one draws the answers if "
        "there are no samplers.",
        default=[],
    )
    seed: Seed = key("Seed of the uniform numbers, as one of `seeds`.", default=0)
    tokens: Annotated[int, Field(ge=1, le=1000)] = key("Longest answer in tokens.", default=32)
    top: Annotated[int, Field(ge=1, le=100)] = key("Tokens shown of each distribution.", default=12)
