"""A sampler as a logits processor of Hugging Face's `generate`."""

import torch
from transformers import LogitsProcessor

from adaptive_samplers.samplers.base import AdaptiveSampler


class AdaptiveLogitsProcessor(LogitsProcessor):
    """Replaces the scores of every decoding step by `sampler.logits(scores, preference=preference)`.

    Raises
    ------
    UserError
        The sampler takes no such preference.
    """

    def __init__(self, sampler: AdaptiveSampler, preference: float | None = None) -> None:
        sampler.at(preference)
        self.sampler = sampler
        self.preference = preference

    @torch.no_grad()
    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return self.sampler.logits(scores, preference=self.preference)
