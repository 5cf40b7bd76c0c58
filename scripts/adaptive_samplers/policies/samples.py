"""The samples of a policy: how they are drawn, and one table of them with their prompts."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.heuristics import expand_heuristics
from adaptive_samplers.tables import parts_of_prompts, write_parts

ANSWER_COLUMNS = ["text", "finish_reason", "token_ids", "token_logprobs", "sample_seed", "engine"]


def sampling_heuristics(steps: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The `heuristics` table with one row for a chain of steps, as given in `policy_samples.sampling`."""
    return pd.DataFrame(expand_heuristics(Heuristics(pipelines=[steps])))


def gather_policy_samples(candidates: Path, prompts: pd.DataFrame, policy: str, output: Path) -> None:
    """Write the `policy_samples` table: the verified answers, grouped by prompt and ordered by prompt and sample.

    A sample's id is the seed of its answer, 0 to n - 1. The answers are read some prompts at a time.
    """
    write_parts("policy_samples", _parts(candidates, prompts, policy), output)


def _parts(candidates: Path, prompts: pd.DataFrame, policy: str) -> Iterator[pd.DataFrame]:
    asked = prompts[["prompt_id", "dataset", "messages"]]
    for part in parts_of_prompts("candidates", candidates, ["prompt_id", "seed", *ANSWER_COLUMNS]):
        rows = part.rename(columns={"seed": "sample_id"}).merge(asked, on="prompt_id", validate="many_to_one")
        yield rows.assign(policy=policy).sort_values(["prompt_id", "sample_id"])
