"""The local sampler: each log-probability is transformed on its own."""

import torch
from torch import Tensor, nn

from adaptive_samplers.samplers.base import AdaptiveSampler, SwiGLU


class LocalProbabilityTransform(AdaptiveSampler):
    """`y = logp + SwiGLU(logp)`, then a truncation whose scale and threshold are two plain parameters.

    It does not see the rest of the distribution, so it can express temperature and epsilon sampling, and
    not the heuristics whose cut depends on the other tokens.

    Parameters
    ----------
    hidden_dims : hidden features of the SwiGLU layer.
    """

    def __init__(self, hidden_dims: int = 64) -> None:
        super().__init__()
        self.mlp = SwiGLU(1, hidden_dims, 1)
        self.truncation_scale = nn.Parameter(torch.tensor(1.0))
        self.truncation_threshold = nn.Parameter(torch.tensor(10.0))

    def smooth_and_truncation(self, t: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        smooth = t + self.mlp(t[..., None]).squeeze(-1)
        rows = (len(t), 1)
        return smooth, self.truncation_scale.expand(rows), self.truncation_threshold.expand(rows)
