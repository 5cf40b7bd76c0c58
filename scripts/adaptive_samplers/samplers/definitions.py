"""The architectures, one declaration each; the classes are in separate modules, which need torch.

Colors are from Okabe and Ito, as in `figures.style`. docs/add_an_architecture.md explains how to add one.
"""

from collections.abc import Iterator

from adaptive_samplers.config.fields import key
from adaptive_samplers.heuristics.registry import Numbers
from adaptive_samplers.samplers.registry import Options, architecture

# Architectures are tiny; what is larger is a mistake.
WIDEST = 4096
MOST_BLOCKS = 64


@architecture("adaptive_samplers.samplers.local", learning_rate=0.01, color="#0072B2", marker="o")
class LocalProbabilityTransform(Options):
    """Sees each token's log-probability alone; enough for temperature and epsilon sampling."""

    hidden_dims: int = key("Hidden features.", default=64, ge=1, le=WIDEST)


@architecture("adaptive_samplers.samplers.simple", learning_rate=0.01, color="#009E73", marker="s")
class SimpleDistributionAwareTransform(Options):
    """Sees the largest log-probability and the entropy too; enough for min-p and eta sampling as well."""

    hidden_dims: int = key("Hidden features.", default=64, ge=1, le=WIDEST)
    use_dynamic_truncation: bool = key(
        "Whether truncation follows from the distribution, or is the same for all.", default=True
    )


@architecture(
    "adaptive_samplers.samplers.network",
    learning_rate=0.003,  # it does not tolerate the rate that suits the others
    color="#D55E00",
    marker="^",
    # Published networks have a multiplier, and saved ones may be as small as can be.
    constructor={
        "multiplier": Numbers(above=0, at_most=1e6),
        "d_model": Numbers(at_least=1, at_most=WIDEST, whole=True),
        "n_blocks": Numbers(at_least=0, at_most=MOST_BLOCKS, whole=True),
    },
)
class SamplingNetwork(Options):
    """Sees the whole distribution, by linear attention over the vocabulary as a set."""

    d_model: int = key("Width of a token's representation, a multiple of `n_heads`.", default=32, ge=2, le=WIDEST)
    d_ff: int = key("Width of the feed-forward layers.", default=64, ge=1, le=WIDEST)
    n_blocks: int = key("Number of blocks.", default=4, ge=1, le=MOST_BLOCKS)
    n_heads: int = key("Attention heads in a block.", default=4, ge=1, le=WIDEST)
    scale: bool = key(
        "Whether the output is multiplied by a learned scale; otherwise the multiplier is exactly 1.", default=True
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.d_model % self.n_heads:
            message = f"{self.d_model} is not divisible by n_heads, {self.n_heads}; allowed: a multiple of n_heads"
            yield "d_model", message


@architecture(
    "adaptive_samplers.samplers.conditioned",
    learning_rate=0.003,
    color="#56B4E9",
    marker="v",
    conditioned=True,
    # It answers another question than the others: one sampler for many weights.
    named_only=True,
)
class ConditionedSamplingNetwork(SamplingNetwork):
    """A `SamplingNetwork` that takes a preference between 0 and 1: one for a whole front, from quality to diversity."""

    d_preference: int = key("Hidden features of the function of the preference.", default=16, ge=1, le=WIDEST)
    preference: float = key("The preference that is taken where none is given.", default=0.5, ge=0, le=1)
