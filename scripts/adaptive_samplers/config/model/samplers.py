"""The architectures to train."""

from adaptive_samplers.config.fields import Section, key


class LocalProbabilityTransformOptions(Section):
    """Sees each token's log-probability alone; enough for temperature and epsilon sampling."""

    hidden_dims: int = key("Hidden features.", default=64, ge=1, le=4096)


class SimpleDistributionAwareTransformOptions(Section):
    """Sees the largest log-probability and the entropy too; enough for min-p and eta sampling as well."""

    hidden_dims: int = key("Hidden features.", default=64, ge=1, le=4096)
    use_dynamic_truncation: bool = key(
        "Whether truncation follows from the distribution, or is the same for all.", default=True
    )


class SamplingNetworkOptions(Section):
    """Sees the whole distribution, by linear attention over the vocabulary as a set."""

    d_model: int = key("Width of a token's representation, a multiple of `n_heads`.", default=32, ge=2, le=4096)
    d_ff: int = key("Width of the feed-forward layers.", default=64, ge=1, le=4096)
    n_blocks: int = key("Number of blocks.", default=4, ge=1, le=64)
    n_heads: int = key("Attention heads in a block.", default=4, ge=1, le=4096)
    scale: bool = key(
        "Whether the output is multiplied by a learned scale; otherwise the multiplier is exactly 1.", default=True
    )


class Samplers(Section):
    """The architectures to train, at least one: those that are named here, or all where the key is left out. `null`
    leaves out one that a file below this one names."""

    LocalProbabilityTransform: LocalProbabilityTransformOptions | None = key(
        "Sees each token's log-probability alone; enough for temperature and epsilon sampling.", default=None
    )
    SimpleDistributionAwareTransform: SimpleDistributionAwareTransformOptions | None = key(
        "Sees the largest log-probability and the entropy too; enough for min-p and eta sampling as well.", default=None
    )
    SamplingNetwork: SamplingNetworkOptions | None = key(
        "Sees the whole distribution, by linear attention over the vocabulary as a set.", default=None
    )
