"""The ways to sample that an explanation shows: the raw logits, chains of heuristics, samplers, and the families."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from adaptive_samplers.config.model.heuristics import GridBlock, Heuristics
from adaptive_samplers.errors import UserError
from adaptive_samplers.heuristics import Pipeline, configured_pipeline, parse_processors, pipeline_name
from adaptive_samplers.heuristics.pipelines import grid_pipelines, learned_heuristic, official_pipelines
from adaptive_samplers.heuristics.registry import LEARNED
from adaptive_samplers.samplers import ARCHITECTURES
from adaptive_samplers.samplers.base import AdaptiveSampler
from adaptive_samplers.tables import read_table

TARGET = "target"

Kind = Literal["raw", "target", "chain", "sampler", "family"]


@dataclass(frozen=True)
class Way:
    """A way to draw the next token.

    Attributes
    ----------
    name : str
        As tables and figures call it.
    kind : what it is for the reader.
    pipeline : Pipeline
        What turns the raw logits into the logits to draw from; empty for the raw ones.
    """

    name: str
    kind: Kind
    pipeline: Pipeline = ()

    @property
    def preference(self) -> float | None:
        """The preference of a learned sampler, None where it has none."""
        return self.pipeline[0].preference if self.kind == "sampler" else None

    @property
    def architecture(self) -> str | None:
        """The architecture of a learned sampler, as far as its folder tells."""
        if self.kind != "sampler":
            return None
        parent = PurePath(self.pipeline[0].folder).parent.name
        return parent if parent in ARCHITECTURES else None


RAW = Way("raw", "raw")


@dataclass(frozen=True)
class Mixture:
    """What an imitating sampler learned from: the heuristics of the selected answers, each with its share of the steps.

    For one distribution, the loss KL(target || predicted), averaged over the heuristics, is least where the prediction
    is the mean of what they make of it.

    Attributes
    ----------
    name : str
        Which answers they are of.
    shares : dict of Pipeline to float
        They sum to 1.
    """

    name: str
    shares: dict[Pipeline, float]

    @classmethod
    def of_training_set(cls, path: Path) -> Mixture:
        """The heuristics of the training answers in a table `training_sets`; steps count as training counts them.

        Raises
        ------
        UserError
            If the table cannot be read, or has no such answers.
        """
        rows = read_table("training_sets", path, columns=["processors", "token_ids", "finish_reason", "split"])
        rows = rows[rows["split"] == "train"]
        if rows.empty:
            raise UserError(f"{path}: holds no answer to a training prompt, so there is no target; raise scoring.top_k")
        # The choice to end is a step too.
        steps = rows["token_ids"].map(len) + (rows["finish_reason"] == "stop")
        shares = steps.groupby(rows["processors"]).sum() / steps.sum()
        return cls(path.stem, {parse_processors(chain): float(share) for chain, share in shares.items() if share > 0})


def chain_way(pipeline: Pipeline) -> Way:
    """A chain of heuristics, perhaps with learned samplers among them."""
    return Way(pipeline_name(pipeline), "chain", pipeline)


def sampler_ways(folder: str, preferences: Sequence[float]) -> list[Way]:
    """A saved sampler: once, or at each of the preferences if it takes any.

    Raises
    ------
    UserError
        If it cannot be loaded.
    """
    try:
        takes_any = AdaptiveSampler.from_pretrained(folder).takes_preference
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{folder}: is no folder here and could not be fetched from the hub ({reason}); check its name, your "
            "access and the network"
        ) from error
    return [_sampler_way(folder, preference) for preference in (preferences if takes_any else ()) or [None]]


def _sampler_way(folder: str, preference: float | None) -> Way:
    """One of a run has the name that tables give it; any other that of its folder."""
    if PurePath(folder).parent.name in ARCHITECTURES:
        row = learned_heuristic(folder, preference)
        return Way(row["name"], "sampler", parse_processors(row["processors"]))
    setting = folder if preference is None else {"path": folder, "preference": preference}
    chain = configured_pipeline([{LEARNED: setting}])
    return Way(pipeline_name(chain).removeprefix(f"{LEARNED}_"), "sampler", chain)


def families(heuristics: Heuristics) -> list[Way]:
    """One setting of each family that the config sweeps, in the middle of its values and temperatures, and each chain.

    Of an even number, the later of the two in the middle; prompted heuristics, which change no distribution, are none.
    """
    chains = dict.fromkeys([*_of_grid(heuristics.grid), *_middle(list(official_pipelines(heuristics.official)))])
    chains |= dict.fromkeys(map(configured_pipeline, heuristics.pipelines))
    return [Way(pipeline_name(chain), "family", chain) for chain in chains]


def _of_grid(grid: Sequence[GridBlock]) -> Iterator[Pipeline]:
    for block in grid:
        middle = {"values": _middle(block.values or []) or None, "temperatures": _middle(block.temperatures)}
        yield from grid_pipelines(block.model_copy(update=middle))


def _middle(items: Sequence) -> list:
    return list(items[len(items) // 2 :][:1])
