"""Logits as distributions: which tokens are masked, which rows are refused, and log-probabilities."""

import math

import torch
from torch import Tensor

from adaptive_samplers.sorting import sort_logits

# Some models write the most negative number of their data type where they mean minus infinity. No language
# model means a logit below this one, and a range of log-probabilities that reached down there would resolve nothing.
MASKED_BELOW = -1e30

# Others ban tokens with -1e4, or float16's most negative number. A token this many nats less probable than the first
# has no probability even in float64: a network does not see it, as if it were masked.
BANNED_DEPTH = 1000.0


def check_rows(largest: Tensor) -> None:
    """Refuse rows that are not distributions, by the largest element or the log-sum-exp `[B]` of their logits.

    Raises
    ------
    ValueError
        A row holds NaN or plus infinity, or no token that is not masked; it says which one.
    """
    # Any of the three mistakes shows in the whole row.
    if not (largest.isfinite() & (largest > MASKED_BELOW)).all():
        values = largest.flatten().tolist()
        row = next(row for row, value in enumerate(values) if not MASKED_BELOW < value < math.inf)
        if values[row] <= MASKED_BELOW:
            raise ValueError(
                f"row {row} of the logits has every token masked, at minus infinity or below {MASKED_BELOW:g}: leave "
                "at least one to draw"
            )
        raise ValueError(
            f"row {row} of the logits holds NaN or plus infinity, or a number beyond float32: the model's data type "
            "may have overflowed; run it in bfloat16 or float32"
        )


def mask_and_check(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits `[..., V]` with minus infinity where masked, the mask, and their log-sum-exp `[..., 1]`.

    They are float64 where the logits are, else float32.

    Raises
    ------
    ValueError
        A row holds NaN or plus infinity, or no token that is not masked.
    """
    masked = logits <= MASKED_BELOW
    kept = logits.to(torch.promote_types(logits.dtype, torch.float32)).masked_fill(masked, -torch.inf)
    log_normalizer = kept.logsumexp(-1, keepdim=True)
    check_rows(log_normalizer)
    return kept, masked, log_normalizer


def masked_log_softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities in nats of logits `[..., V]`, minus infinity where masked, and the mask.

    Precision and errors are those of `mask_and_check`.
    """
    kept, masked, log_normalizer = mask_and_check(logits)
    # PyTorch's log_softmax adds in one chain and loses 1e-4 nats on a flat vocabulary; its logsumexp loses 1e-6.
    return kept - log_normalizer, masked


def sorted_log_probs(logits: Tensor) -> Tensor:
    """Log-probabilities of logits `[B, V]` in descending order, float32 nats; masked tokens last, at minus infinity.

    Raises
    ------
    ValueError
        A row holds NaN or plus infinity, or no token that is not masked.
    """
    log_probs, _ = masked_log_softmax(logits)
    return sort_logits(log_probs)[0]
