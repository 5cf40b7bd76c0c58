"""Compile what draws and sketches before the first job needs it: `python -m adaptive_samplers.engines.precompile`.

Numba compiles a function for the types that it is called with, and keeps the result next to its source. Jobs that start
together would each compile the same functions, some ten seconds a job.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from adaptive_samplers.engines.drawing import Draws, draw_tokens
from adaptive_samplers.heuristics import configured_pipeline
from adaptive_samplers.samplers import ARCHITECTURES, build_sampler
from adaptive_samplers.sketch import DistributionSketch

TOKENS = 4096  # of a vocabulary; what is compiled serves any


def precompile() -> None:
    """Draw once with heuristics that need each of the passes, and with a sampler of each architecture; and sketch."""
    chains = [[{"temperature": 0.7}, {"top_p": 0.9}], [{"top_n_sigma": 1.0}, {"typical": 0.9}]]
    pipelines = [configured_pipeline(chain) for chain in chains]
    logits = torch.randn(2, TOKENS, generator=torch.Generator().manual_seed(0))
    with TemporaryDirectory() as folder:
        for number, architecture in enumerate(ARCHITECTURES):
            path = Path(folder, architecture)
            build_sampler(architecture, {}, number).save_pretrained(path)
            pipelines.append(configured_pipeline([{"learned": str(path)}]))
        for pipeline in pipelines:
            answers = [Draws.start(pipeline, seed, max_new_tokens=1) for seed in (0, 1)]
            draw_tokens(logits.log_softmax(-1), [0, 1], answers, [0, 0])
    DistributionSketch.from_logits(logits, top=8, tail=8)


if __name__ == "__main__":
    precompile()
