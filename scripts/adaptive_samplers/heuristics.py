"""Sampling heuristics, each defined once, on the sorted support of a distribution.

Every heuristic that we sweep treats the vocabulary as a set, so it needs only the log-probabilities `t`, sorted in
descending order, and how many tokens share each of them, `n`. The full vocabulary is the case `n = 1`; a
`DistributionSketch` is the case of a few hundred points. A heuristic returns new logits on the same support, with -inf
where tokens are removed; where Hugging Face's warpers define it, it agrees with them.

To add one, write a function `(t, n, parameter) -> t` with the decorator `heuristic`; see docs/add_a_heuristic.md.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adaptive_samplers.hashing import content_id

Transform = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Heuristic:
    """A named transform with its one parameter's name."""

    name: str
    parameter: str
    transform: Transform


HEURISTICS: dict[str, Heuristic] = {}


def heuristic(name: str, parameter: str) -> Callable[[Transform], Transform]:
    """Register a transform `(t [R, S], n [R, S], parameter [R, 1]) -> logits [R, S]`.

    `t` are logits in nats, descending along the last axis apart from entries that are already -inf; they need not be
    normalized. `n` are the counts of tokens at each point.
    """

    def register(transform: Transform) -> Transform:
        HEURISTICS[name] = Heuristic(name, parameter, transform)
        return transform

    return register


def support_probabilities(t: Tensor, n: Tensor) -> Tensor:
    """The probability of one token at each support point, `exp(t) / sum n exp(t)`; 0 where `t` is -inf or `n` is 0."""
    weights = torch.where(n > 0, torch.exp(t - t.amax(-1, keepdim=True)), 0.0)
    return weights / (n * weights).sum(-1, keepdim=True)


def support_entropy(t: Tensor, n: Tensor) -> Tensor:
    """Entropy in nats, shape `[R, 1]`."""
    p = support_probabilities(t, n)
    return -(n * torch.xlogy(p, p)).sum(-1, keepdim=True)


def _keep(t: Tensor, kept: Tensor) -> Tensor:
    """Remove what is not kept, but never the most probable tokens."""
    return t.masked_fill(~(kept | (t >= t.amax(-1, keepdim=True))), -math.inf)


@heuristic("temperature", "temperature")
def temperature(t: Tensor, n: Tensor, parameter: Tensor) -> Tensor:
    """Divide the logits by the temperature (Ackley, Hinton and Sejnowski 1985)."""
    return t / parameter


@heuristic("top_k", "k")
def top_k(t: Tensor, n: Tensor, parameter: Tensor) -> Tensor:
    """Keep the k most probable tokens and what ties with the last of them (Fan, Lewis and Dauphin 2018)."""
    counts = torch.where(torch.isfinite(t), n, 0.0).cumsum(-1)
    reached = counts >= torch.minimum(parameter, counts[..., -1:])
    position = reached.to(torch.uint8).argmax(-1, keepdim=True)
    return _keep(t, t >= t.gather(-1, position))


@heuristic("top_p", "p")
def top_p(t: Tensor, n: Tensor, parameter: Tensor) -> Tensor:
    """Keep the smallest set of most probable tokens whose mass reaches p (nucleus; Holtzman et al. 2020)."""
    mass = n * support_probabilities(t, n)
    before = mass.cumsum(-1) - mass
    # Only one of several most probable tokens is kept if it suffices: ties are cut where the sum reaches p. Nothing is
    # before the first token that is left, so that one is kept even where p is 0.
    kept = before < parameter.clamp(min=torch.finfo(t.dtype).tiny)
    return t.masked_fill(~kept, -math.inf)


@heuristic("min_p", "p")
def min_p(t: Tensor, n: Tensor, parameter: Tensor) -> Tensor:
    """Keep tokens with at least p times the largest probability (Nguyen et al. 2024)."""
    p = support_probabilities(t, n)
    return _keep(t, p >= parameter * p.amax(-1, keepdim=True))


@heuristic("typical", "mass")
def typical(t: Tensor, n: Tensor, parameter: Tensor) -> Tensor:
    """Keep the tokens whose information is closest to the entropy, up to a mass (Meister et al. 2023)."""
    p = support_probabilities(t, n)
    information = torch.where(p > 0, -torch.log(p), math.inf)
    distance = (information - support_entropy(t, n)).abs()
    order = distance.argsort(-1)
    mass = (n * p).gather(-1, order).cumsum(-1)
    last = (mass < parameter).sum(-1, keepdim=True).clamp(max=t.shape[-1] - 1)
    return t.masked_fill(distance > distance.gather(-1, order).gather(-1, last), -math.inf)


@heuristic("epsilon", "epsilon")
def epsilon(t: Tensor, n: Tensor, parameter: Tensor) -> Tensor:
    """Keep tokens with at least the probability epsilon (Hewitt, Manning and Liang 2022)."""
    return _keep(t, support_probabilities(t, n) >= parameter)


@heuristic("eta", "epsilon")
def eta(t: Tensor, n: Tensor, parameter: Tensor) -> Tensor:
    """Keep tokens above min(epsilon, sqrt(epsilon) exp(-entropy)) (Hewitt, Manning and Liang 2022)."""
    threshold = torch.minimum(parameter, torch.sqrt(parameter) * torch.exp(-support_entropy(t, n)))
    return _keep(t, support_probabilities(t, n) >= threshold)


@dataclass(frozen=True)
class Processor:
    """One step of a pipeline: a heuristic with its parameter, or a learned sampler with the folder it is saved in."""

    name: str
    value: float | str

    @property
    def parameter(self) -> str:
        return "path" if self.name == "learned" else HEURISTICS[self.name].parameter

    def describe(self) -> dict[str, Any]:
        """The interchange form, `{name, params}`."""
        return {"name": self.name, "params": {self.parameter: self.value}}


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
        if item["name"] != "learned" and item["name"] not in HEURISTICS:
            raise ValueError(f"unknown processor '{item['name']}'; known: learned, {', '.join(sorted(HEURISTICS))}")
        expected = "path" if item["name"] == "learned" else HEURISTICS[item["name"]].parameter
        if list(item["params"]) != [expected]:
            raise ValueError(f"processor '{item['name']}' takes the parameter '{expected}', not {item['params']}")
        pipeline.append(Processor(item["name"], item["params"][expected]))
    return tuple(pipeline)


def pipeline_name(pipeline: Pipeline) -> str:
    """`temperature_0.7+min_p_0.05`: steps in the order in which they are applied.

    A learned sampler is named by the end of its path, `learned_{architecture}/{weights}_top{k}`.
    """
    return "+".join(f"{step.name}_{_value_name(step.value)}" for step in pipeline)


def _value_name(value: float | str) -> str:
    return "/".join(PurePath(value).parts[-2:]) if isinstance(value, str) else f"{value:g}"


def expand_heuristics(grid: Sequence[dict[str, Any]], pipelines: Sequence[Sequence[dict[str, float]]]) -> list[dict]:
    """The rows of the `heuristics` table: every value of a family at every temperature, then explicit pipelines.

    In the grid the temperature comes first, as in Hugging Face's `generate`; a temperature of 1 changes nothing and
    is left out of the chain, except where it is all there is.
    """
    chains: list[tuple[str, Pipeline]] = []
    for block in grid:
        for value in block.get("values") or [None]:
            for degrees in block.get("temperatures") or [1.0]:
                chain = [Processor("temperature", float(degrees))]
                if block["family"] != "temperature":
                    cut = Processor(block["family"], value)
                    chain = [cut] if degrees == 1 else [*chain, cut]
                chains.append((block["family"], tuple(chain)))
    for steps in pipelines:
        chain = [Processor(name, value) for step in steps for name, value in step.items()]
        chains.append(("pipeline", tuple(chain)))
    rows = []
    for family, chain in chains:
        described = [step.describe() for step in chain]
        rows.append(
            {
                "heuristic_id": content_id(described),
                "name": pipeline_name(chain),
                "family": family,
                "processors": json.dumps(described),
            }
        )
    return rows


def learned_heuristic(folder: str) -> dict[str, str]:
    """The row of the `heuristics` table for a sampler saved in `.../{architecture}/{weights}_top{k}`."""
    architecture, training_set = PurePath(folder).parts[-2:]
    weights, top_k = training_set.rsplit("_", 1)
    described = [{"name": "learned", "params": {"path": str(folder)}}]
    return {
        "heuristic_id": content_id(described),
        "name": f"{architecture} {weights} {top_k}",
        "family": "learned",
        "processors": json.dumps(described),
    }


def apply_on_support(t: Tensor, n: Tensor, pipelines: Sequence[Pipeline]) -> Tensor:
    """Apply one pipeline a row to sorted supports.

    Rows that take the same heuristic at the same step are computed together, whatever their parameters.

    Parameters
    ----------
    t : Tensor [R, S]
        Logits, descending.
    n : Tensor [R, S]
        Counts.
    pipelines : sequence of R pipelines

    Returns
    -------
    Tensor [R, S]
        New logits on the same support, -inf where removed.
    """
    t = t.clone()
    for step in range(max(map(len, pipelines), default=0)):
        groups: dict[tuple, list[int]] = {}
        for row, pipeline in enumerate(pipelines):
            if step < len(pipeline):
                processor = pipeline[step]
                group = (processor.name, processor.value) if processor.name == "learned" else (processor.name,)
                groups.setdefault(group, []).append(row)
        for group, rows in groups.items():
            # Indexing copies: where all rows take part, the table itself is used.
            everything = len(rows) == len(t)
            part_t, part_n = (t, n) if everything else (t[rows], n[rows])
            if group[0] == "learned":
                changed = _apply_learned(group[1], part_t, part_n)
            else:
                values = torch.tensor([[pipelines[row][step].value] for row in rows], dtype=t.dtype, device=t.device)
                transform = HEURISTICS[group[0]].transform
                # What a network makes of descending logits need not descend.
                behind_learned = any(before.name == "learned" for row in rows for before in pipelines[row][:step])
                if behind_learned:
                    changed = _apply_in_order(transform, part_t, part_n, values)
                else:
                    changed = transform(part_t, part_n, values)
            if everything:
                t = changed
            else:
                t[rows] = changed
    return t


def _apply_in_order(transform: Transform, t: Tensor, n: Tensor, parameter: Tensor) -> Tensor:
    """Apply a heuristic to logits that are in no order."""
    ordered, order = torch.sort(t, dim=-1, descending=True, stable=True)
    return torch.empty_like(t).scatter_(-1, order, transform(ordered, n.gather(-1, order), parameter))


def _apply_learned(path: str, t: Tensor, n: Tensor) -> Tensor:
    """A learned sampler on the support: as a full vocabulary where every count is 1, else as a sketch."""
    # Samplers are loaded only where a pipeline has one.
    from adaptive_samplers.samplers import load_sampler

    sampler = load_sampler(path, str(t.device))
    with torch.no_grad():
        if bool((n == 1).all()):
            return sampler.logits(t)
        kept = torch.isfinite(t) & (n > 0)
        log_probs = t - torch.logsumexp(t + n.log(), -1, keepdim=True)
        # A network cannot read minus infinity: removed points repeat the smallest one that is left, with no count.
        smallest = log_probs.masked_fill(~kept, math.inf).amin(-1, keepdim=True)
        return sampler(log_probs.where(kept, smallest), n * kept).masked_fill(~kept, -math.inf)


def sort_logits(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Float32 logits in descending order and the token ids in that order; equal logits in the order of their ids."""
    logits = logits.float()
    if logits.device.type != "cpu":
        return torch.sort(logits, dim=-1, descending=True, stable=True)
    # NumPy's vectorized sort of plain integers is five times faster here than a sort of values with their indices, so
    # each value and its id are packed into one integer: the float's bits, mapped to descend, above the id's.
    values = logits.numpy()
    ids = np.arange(values.shape[-1], dtype=np.int64)
    t, order = np.empty_like(values), np.empty(values.shape, dtype=np.int64)
    for row, value in enumerate(values):
        bits = (value + 0.0).view(np.int32)  # adding zero makes -0.0 equal to 0.0
        packed = np.where(bits < 0, bits & 0x7FFFFFFF, ~bits).astype(np.int64)
        packed <<= 32
        packed |= ids
        packed.sort()
        packed &= 0xFFFFFFFF
        order[row] = packed
        t[row] = value[packed]
    return torch.from_numpy(t), torch.from_numpy(order)


def apply_to_logits(logits: Tensor, pipelines: Sequence[Pipeline]) -> Tensor:
    """Apply one pipeline a row to logits over the vocabulary, `[R, V] -> [R, V]` float32."""
    t, token_ids = sort_logits(logits)
    t = apply_on_support(t, torch.ones_like(t), pipelines)
    return torch.empty_like(t).scatter_(-1, token_ids, t)


def draw(t: Tensor, uniforms: Tensor) -> Tensor:
    """Positions drawn by inverse CDF along sorted supports, one uniform number a row.

    Along the sorted order the same uniform number gives similar tokens under similar heuristics: common random numbers,
    which make paired comparisons sharper.

    Parameters
    ----------
    t : Tensor [R, V]
        Logits, -inf where removed.
    uniforms : Tensor [R]
        Numbers in [0, 1), float64.

    Returns
    -------
    Tensor [R]
        Positions, int64.
    """
    cumulative = torch.exp(t - t.amax(-1, keepdim=True)).cumsum(-1, dtype=torch.float64)
    target = uniforms[:, None].to(cumulative) * cumulative[:, -1:]
    # `right` passes over points without mass, so that a removed token can never be drawn.
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)
