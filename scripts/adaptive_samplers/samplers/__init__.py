"""Adaptive samplers: tiny permutation-equivariant networks from logits to the logits to sample from."""

from adaptive_samplers.samplers.base import ARCHITECTURES, AdaptiveSampler, build_sampler, load_sampler
from adaptive_samplers.samplers.local import LocalProbabilityTransform
from adaptive_samplers.samplers.network import SamplingNetwork
from adaptive_samplers.samplers.simple import SimpleDistributionAwareTransform

__all__ = [
    "ARCHITECTURES",
    "AdaptiveSampler",
    "LocalProbabilityTransform",
    "SamplingNetwork",
    "SimpleDistributionAwareTransform",
    "build_sampler",
    "load_sampler",
]
