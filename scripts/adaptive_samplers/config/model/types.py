"""Types that several sections share."""

from typing import Annotated, Any, Literal

from pydantic import Field

from adaptive_samplers.engines.registry import ENGINES
from adaptive_samplers.labels.judges.registry import JUDGE_FEATURES
from adaptive_samplers.measures import DIVERSITY_MEASURES, OBJECTIVES

PromptKind = Literal["creative", "verifiable", "factual", "chat"]
Split = Literal["train", "validation", "test"]
DataType = Literal["float32", "bfloat16", "float16"]
Objective = Literal[*OBJECTIVES]
DiversityMeasure = Literal[*DIVERSITY_MEASURES]
PreferenceFormat = Literal["pairs", "trl_preference", "trl_unpaired", "simpo", "halos_pairwise", "halos_binary"]
EngineName = Literal[*ENGINES]
JudgeFeature = Literal[*JUDGE_FEATURES]
JudgeEngineName = Literal[*(name for name, engine in ENGINES.items() if engine.for_judges)]

Text = Annotated[str, Field(min_length=1)]
Tokens = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[
    int, Field(ge=0, le=2**63 - 1, json_schema_extra={"x-allowed": "a whole number of at least 0 and below 2^63"})
]
Number = Annotated[Any, Field(json_schema_extra={"x-allowed": "a number"})]  # checked by its heuristic
Step = Annotated[
    dict[str, Any],
    Field(
        min_length=1,
        max_length=1,
        json_schema_extra={"x-allowed": "one processor and its setting, such as top_k: 50"},
    ),
]
Chain = Annotated[list[Step], Field(min_length=1)]

# Names of folders in `results/`.
NAME = {
    "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
    "allowed": "at most 100 letters, digits, '.', '_' and '-', beginning with a letter or digit",
}
SECONDS = {"gt": 0, "le": 604_800}
DEVICE = {
    "pattern": "^(auto|cpu|mps|cuda(:[0-9]+)?)$",
    "allowed": "auto, cpu, mps, cuda or cuda:N with the number N of a GPU",
}
