"""The soft truncation that ends every sampler."""

from torch import Tensor
from torch.nn.functional import logsigmoid


def truncate(smooth: Tensor, scale: Tensor, threshold: Tensor) -> Tensor:
    """Soft truncation `smooth + logsigmoid(smooth * scale + threshold)` of `[B, S]` by `[B, 1]` and `[B, 1]`.

    Well above `-threshold / scale` nothing changes; well below, a logit sinks by `scale` nats per nat.
    """
    return smooth + logsigmoid(smooth * scale + threshold)
