"""Hugging Face's warpers: which tokens our heuristics keep otherwise in float64, and two ways to call them."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopHLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from adaptive_samplers.heuristics import Pipeline, Processor, apply_to_logits

WARPERS = {
    "temperature": TemperatureLogitsWarper,
    "top_k": TopKLogitsWarper,
    "top_p": TopPLogitsWarper,
    "min_p": MinPLogitsWarper,
    "typical": TypicalLogitsWarper,
    "epsilon": EpsilonLogitsWarper,
    "eta": EtaLogitsWarper,
    "top_h": TopHLogitsWarper,
}
# Of tokens that tie at the cut, these keep some; which ones is nobody's promise.
CHOOSING = ("top_p", "top_h")
# Distances from the entropy that differ by less are equal, as far as float64 tells.
SAME_DISTANCE = 1e-12


def warped(step: Processor, logits: Tensor) -> Tensor:
    """Logits `[R, V]` after Hugging Face's warper of a step, in their own type."""
    warper = WARPERS[step.name](*step.values)
    if step.name == "eta":
        # The only one that keeps its parameter as a tensor, in float32.
        warper.epsilon = torch.tensor(step.value, dtype=logits.dtype)
    return warper(None, logits)


def warpers_of(pipeline: Pipeline) -> LogitsProcessorList:
    """The warpers of a pipeline's steps."""
    return LogitsProcessorList([WARPERS[step.name](*step.values) for step in pipeline])


def row_by_row(logits: Tensor, pipelines: Sequence[Pipeline]) -> Callable[[], list[Tensor]]:
    """Work that warps logits `[R, V]`, each row by its own pipeline, with a call for every row."""
    warpers = [warpers_of(pipeline) for pipeline in pipelines]
    return lambda: [warper(None, logits[row : row + 1]) for row, warper in enumerate(warpers)]


def grouped(logits: Tensor, pipelines: Sequence[Pipeline]) -> Callable[[], list[Tensor]]:
    """The same with one call for all rows of a pipeline."""
    groups = [
        (warpers_of(chain), [row for row, pipeline in enumerate(pipelines) if pipeline == chain])
        for chain in dict.fromkeys(pipelines)
    ]
    return lambda: [warper(None, logits[rows]) for warper, rows in groups]


def off_the_cut(step: Processor, logits: Tensor) -> Tensor:
    """How far each token of a row `[V]` is from where it would change sides, in probability or in nats, by float64."""
    logits = logits.double()
    p, (value,) = logits.softmax(-1), step.values
    entropy = -torch.xlogy(p, p).sum()
    if step.name in ("temperature", "top_k"):
        return torch.full_like(p, math.inf)
    if step.name in ("min_p", "epsilon", "eta"):
        cut = {"min_p": value * p.max(), "epsilon": value, "eta": min(value, math.sqrt(value) * math.exp(-entropy))}
        return (p - cut[step.name]).abs()
    if step.name == "top_h":
        top = logits.topk(min(100, len(logits)))
        terms = -torch.xlogy(top.values.softmax(-1), top.values.softmax(-1))
        off = torch.full_like(p, math.inf)
        return off.scatter(0, top.indices, (terms.cumsum(-1) - value * terms.sum()).abs())
    distance = p if step.name == "top_p" else (-p.log() - entropy).abs()
    order = distance.argsort(stable=True)
    if step.name == "top_p":
        return (p[order].cumsum(-1) - (1 - value)).abs()[order.argsort()]
    before = p[order].cumsum(-1) - p[order]
    off = (before - value).abs()[order.argsort()]
    last = distance[order][((before < value).sum() - 1).clamp(min=0)]
    return torch.where((distance - last).abs() < SAME_DISTANCE, 0.0, off)


def differences(step: Processor, logits: Tensor) -> Tensor:
    """Of the tokens of logits `[R, V]` that one side keeps and the other not, how far they are from the cut, `[D]`.

    Hugging Face's side is computed in float64. Of tokens that tie at a cut, as many must be kept.
    """
    ours, theirs = apply_to_logits(logits, [(step,)] * len(logits)), warped(step, logits.double())
    found = []
    for our_row, their_row, row in zip(ours.isfinite(), theirs.isfinite(), logits, strict=True):
        differ = our_row != their_row
        if step.name in CHOOSING:
            for value in row[differ].unique():
                ties = row == value
                surplus = abs(int((ties & our_row).sum()) - int((ties & their_row).sum()))
                differ[ties.nonzero().flatten()[surplus:]] = False
        if differ.any():
            off = off_the_cut(step, row)
            found += [off[row == value].amin() for value in row[differ]]
    return torch.stack(found) if found else torch.empty(0, dtype=torch.float64)
