"""The distribution-aware sampler: each log-probability is transformed knowing two statistics of all."""

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from adaptive_samplers.samplers.base import AdaptiveSampler, SwiGLU


class SimpleDistributionAwareTransform(AdaptiveSampler):
    """`y = logp + SwiGLU([silu(Linear(logp)), largest logp, entropy])`, then a truncation.

    The two statistics suffice for min-p and eta sampling, in addition to what the local sampler can express.

    Parameters
    ----------
    hidden_dims : features per log-probability, and hidden features of the SwiGLU layer.
    use_dynamic_truncation : let scale and threshold be functions of the statistics instead of two constants.
    """

    statistic_names = ("largest log-probability", "entropy")

    def __init__(self, hidden_dims: int = 64, use_dynamic_truncation: bool = True) -> None:
        super().__init__()
        self.local_mlp = nn.Sequential(nn.Linear(1, hidden_dims), nn.SiLU())
        self.global_mlp = SwiGLU(hidden_dims + 2, hidden_dims, 1)
        if use_dynamic_truncation:
            self.truncation_head = nn.Linear(2, 2)
        else:
            self.truncation_head = None
            # Softplus makes the first one 1.
            self.truncation_params = nn.Parameter(torch.tensor([0.5413, 10.0]))

    def smooth_and_truncation(self, t: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.smooth_and_truncation_given(t, self.statistics(t, n))

    def statistics(self, t: Tensor, n: Tensor) -> Tensor:
        return distribution_statistics(t, n)

    def smooth_and_truncation_given(self, t: Tensor, statistics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = torch.cat([self.local_mlp(t[..., None]), statistics[:, None].expand(-1, t.shape[1], -1)], dim=-1)
        smooth = t + self.global_mlp(features).squeeze(-1)
        if self.truncation_head is None:
            truncation = self.truncation_params.expand(len(t), 2)
        else:
            truncation = self.truncation_head(statistics)
        scale, threshold = softplus(truncation).split(1, dim=-1)
        return smooth, scale, threshold


@torch.no_grad()
def distribution_statistics(t: Tensor, n: Tensor) -> Tensor:
    """The largest log-probability and the entropy, both in nats, `[B, 2]`."""
    entropy = -(n * t.exp() * t).sum(-1)
    return torch.stack([t.amax(-1), entropy], dim=-1)
