"""Pipelines, chains of heuristics: from configs, to and from tables, their names and ids. Needs no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from adaptive_samplers.hashing import content_id
from adaptive_samplers.heuristics.registry import HEURISTICS, LEARNED, PREFERENCES, VERBALIZED, parameter_names

if TYPE_CHECKING:
    from adaptive_samplers.config.model.heuristics import GridBlock, Heuristics, Official, Verbalized

OFFICIAL = "official"
# The default of heuristics.verbalized.template, repeated in the schema; a test compares them.
TEMPLATE = """{prompt}

Give {answers} different responses to this, sampled at random from all that you could give. Write each in a tag of its \
own, with its text and its probability, a number between 0 and 1, in this form and with nothing around it:

<response><text>...</text><probability>...</probability></response>"""

Setting = float | str | Mapping[str, float | str] | None


@dataclass(frozen=True)
class Processor:
    """One step of a pipeline: a heuristic with its parameters, or a learned sampler with the folder it is saved in.

    A pipeline may begin with `verbalized`, which says how the model is asked rather than how its logits are changed.

    Attributes
    ----------
    name : str
        A heuristic, `learned` or `verbalized`.
    values : tuple
        The values of its parameters, in the order of `parameter_names(name)`; a learned sampler may have a preference
        after its folder.
    """

    name: str
    values: tuple[float | str | None, ...] = ()

    @property
    def value(self) -> float | str:
        """The value of the only parameter of a step that has one."""
        (value,) = self.values
        return value

    @property
    def folder(self) -> str:
        """The folder of a learned sampler."""
        return str(self.values[0])

    @property
    def preference(self) -> float | None:
        """The preference of a learned sampler, None where it has none."""
        return self.values[1] if self.name == LEARNED and len(self.values) > 1 else None

    def describe(self) -> dict[str, Any]:
        """The interchange form, `{name, params}`."""
        names = parameter_names(self.name, len(self.values))
        return {"name": self.name, "params": dict(zip(names, self.values, strict=True))}

    @classmethod
    def configured(cls, name: str, setting: Setting) -> Processor:
        """A step as configs write it: a value for one parameter, a map for several, None for none.

        A learned sampler is written as its folder, or as a map with `path` and `preference`.
        """
        if name == LEARNED and isinstance(setting, Mapping):
            return cls(name, (setting["path"], float(setting["preference"])))
        names = parameter_names(name)
        values = [setting] if len(names) == 1 else [(setting or {})[parameter] for parameter in names]
        if name != LEARNED:
            ranges = HEURISTICS[name].parameters.values()
            values = [numbers.typed(value) for numbers, value in zip(ranges, values, strict=True)]
        return cls(name, tuple(values))


Pipeline = tuple[Processor, ...]


def parse_processors(processors: str | Sequence[dict[str, Any]]) -> Pipeline:
    """A pipeline from its interchange form: a JSON string, or the list `[{name, params}, ...]`.

    Raises
    ------
    ValueError
        If a name is unknown or the parameters are not those of the heuristic.
    """
    if isinstance(processors, str):
        processors = json.loads(processors)
    pipeline = []
    for item in processors:
        if set(item) != {"name", "params"}:
            raise ValueError(f"a processor has a name and params, not {item}")
        name, params = item["name"], item["params"]
        if name not in (LEARNED, VERBALIZED) and name not in HEURISTICS:
            raise ValueError(f"unknown processor '{name}'; known: {LEARNED}, {', '.join(sorted(HEURISTICS))}")
        expected = parameter_names(name)
        if name == LEARNED and "preference" in params:
            expected = parameter_names(name, len(expected) + 1)
        if set(params) != set(expected):
            known = f"the parameters {list(expected)}" if expected else "no parameters"
            raise ValueError(f"processor '{name}' takes {known}, not {params}")
        if name == VERBALIZED and pipeline:
            raise ValueError(f"'{VERBALIZED}' is the first step of a pipeline or none")
        step = Processor(name, tuple(params[parameter] for parameter in expected))
        if step.preference is not None:
            if isinstance(step.preference, bool | str) or step.preference not in PREFERENCES:
                raise ValueError(f"'{LEARNED}' takes as its preference {PREFERENCES}, not {step.preference!r}")
            # Equal settings are equal pipelines, however they are written.
            step = Processor(name, (step.folder, float(step.preference)))
        pipeline.append(step)
    return tuple(pipeline)


def split_prompted(pipeline: Pipeline) -> tuple[Processor | None, Pipeline]:
    """How the model is asked for several answers, None where it is asked for one, and what changes its logits."""
    return (pipeline[0], pipeline[1:]) if pipeline and pipeline[0].name == VERBALIZED else (None, pipeline)


def prompted_heuristics(processors: Mapping[str, str]) -> set[str]:
    """The heuristics, among those given by id with their processors, that ask the model for several answers.

    No distribution over next tokens says what their answers are drawn from.
    """
    return {name for name, chain in processors.items() if split_prompted(parse_processors(chain))[0] is not None}


def pipeline_name(pipeline: Pipeline) -> str:
    """`temperature_0.7+min_p_0.05`: steps in the order in which they are applied.

    Of several parameters the names are given too, `quadratic_smoothing_factor_0.2_curve_1`. A learned sampler is named
    by the end of its path, `learned_{architecture}/{weights}_top{k}`, by its generation after the first, `@2`, and by
    its preference if it has one.
    """
    return "+".join(_step_name(step) for step in pipeline)


def _step_name(step: Processor) -> str:
    if step.name == LEARNED:
        parts = PurePath(step.folder).parts
        generation = re.fullmatch(r"sampler_generation=(\d+)", "".join(parts[-4:-3]))
        name = f"{LEARNED}_{'/'.join(parts[-2:])}" + (f"@{generation[1]}" if generation else "")
        return name if step.preference is None else f"{name}_preference_{step.preference:g}"
    if step.name == VERBALIZED:
        return _verbalized_name(*step.values)
    values = [f"{value:g}" for value in step.values]
    if len(values) > 1:
        values = [f"{name}_{value}" for name, value in zip(parameter_names(step.name), values, strict=True)]
    return "_".join([step.name, *values])


def _verbalized_name(answers: int, max_new_tokens: int | None, template: str) -> str:
    """`verbalized_5`, with the longest reply where it is set, and a hash of the template where it is not the usual."""
    parts = [VERBALIZED, str(answers)]
    parts += [] if max_new_tokens is None else ["max", str(max_new_tokens)]
    parts += [] if template == TEMPLATE else ["template", content_id(template, length=4)]
    return "_".join(parts)


def verbalized_pipeline(entry: Verbalized) -> Pipeline:
    """An entry of `heuristics.verbalized`."""
    values = tuple(getattr(entry, name) for name in parameter_names(VERBALIZED))
    return (Processor(VERBALIZED, values), *configured_pipeline(entry.pipeline))


def grid_pipelines(block: GridBlock) -> Iterator[Pipeline]:
    """The pipelines of a block of `heuristics.grid`: every value of its family at every temperature.

    The temperature comes first, as in Hugging Face's `generate`; a temperature of 1 changes nothing and is left out,
    except where it is all there is.
    """
    for setting in block.values or [None]:
        for degrees in block.temperatures:
            heat = Processor.configured("temperature", degrees)
            if block.family == "temperature":
                yield (heat,)
            else:
                step = Processor.configured(block.family, setting)
                yield (step,) if degrees == 1 else (heat, step)


def configured_pipeline(steps: Sequence[Mapping[str, Setting]]) -> Pipeline:
    """An entry of `heuristics.pipelines`."""
    return tuple(Processor.configured(name, setting) for step in steps for name, setting in step.items())


def official_pipelines(official: Official) -> Iterator[Pipeline]:
    """The pipelines of `heuristics.official`: its steps at every temperature; none where it has no steps."""
    steps = configured_pipeline(official.steps)
    for degrees in official.temperatures if steps else []:
        yield steps if degrees == 1 else (Processor.configured("temperature", degrees), *steps)


def expand_heuristics(
    heuristics: Heuristics,
) -> list[dict]:
    """The rows of the `heuristics` table: what is official, the rest of the grid, explicit pipelines, then prompted
    ones."""
    families = dict.fromkeys(official_pipelines(heuristics.official), OFFICIAL)
    for block in heuristics.grid:
        for pipeline in grid_pipelines(block):
            families.setdefault(pipeline, block.family)
    for steps in heuristics.pipelines:
        families.setdefault(configured_pipeline(steps), "pipeline")
    families |= dict.fromkeys(map(verbalized_pipeline, heuristics.verbalized), VERBALIZED)
    rows = []
    for chain, family in families.items():
        described = [step.describe() for step in chain]
        rows.append(
            {
                "heuristic_id": _heuristic_id(chain),
                "name": pipeline_name(chain),
                "family": family,
                "processors": json.dumps(described),
            }
        )
    return rows


def _heuristic_id(chain: Pipeline) -> str:
    """The hash of the interchange form; where a heuristic was defined anew under its old name, with its version."""
    described = [step.describe() for step in chain]
    for step, form in zip(chain, described, strict=True):
        if step.name in HEURISTICS and HEURISTICS[step.name].version > 1:
            form["version"] = HEURISTICS[step.name].version
    return content_id(described)


def lesson_name(lesson: str) -> str:
    """What a sampler was trained on and for, as tables and figures show it: `{weights} top{k}`, `{weights} outcome`."""
    return re.sub(r"^(pareto|a[^_]*_b[^_]*_c[^_]*)_", r"\1 ", lesson)


_AT_PREFERENCE = " preference "


def split_preference(name: str) -> tuple[str, float | None]:
    """The name of a learned sampler without its preference, and the preference; None for one that has none."""
    sampler, _, preference = name.partition(_AT_PREFERENCE)
    return sampler, float(preference) if preference else None


def learned_heuristic(folder: str, preference: float | None = None, temperature: float = 1.0) -> dict[str, str]:
    """The row of the `heuristics` table for a sampler saved in `.../{architecture}/{weights}_{how it was trained}`.

    The last part is `top{k}`, the name of an objective, or both. A temperature other than 1 follows the sampler, and
    its name; with a preference, the name ends with it.
    """
    architecture, lesson = PurePath(folder).parts[-2:]
    setting = str(folder) if preference is None else {"path": str(folder), "preference": preference}
    chain = (Processor.configured(LEARNED, setting),)
    name = f"{architecture} {lesson_name(lesson)}"
    if temperature != 1:
        chain += (Processor.configured("temperature", temperature),)
        name = f"{name} temperature {temperature:g}"
    return {
        "heuristic_id": _heuristic_id(chain),
        "name": name if preference is None else f"{name}{_AT_PREFERENCE}{preference:g}",
        "family": LEARNED,
        "processors": json.dumps([step.describe() for step in chain]),
    }
