"""What `make environment` compiles is all that jobs need, so that none of them compiles it again."""

import os
import subprocess
import sys
from pathlib import Path

from support import REPOSITORY

# As engines draw: some answers share a row, which makes of the rows a tensor with other strides.
DRAW = """
import sys
import torch
from adaptive_samplers.engines.drawing import Draws, draw_tokens
from adaptive_samplers.heuristics import configured_pipeline
from adaptive_samplers.samplers import ARCHITECTURES, build_sampler
from adaptive_samplers.sketch import DistributionSketch

chains = [[{"top_p": 0.8}], [{"min_p": 0.1}, {"temperature": 0.6}]]
for architecture in ARCHITECTURES:
    build_sampler(architecture, {}, 5).save_pretrained(f"{sys.argv[1]}/{architecture}")
    chains.append([{"learned": f"{sys.argv[1]}/{architecture}"}])
answers = [Draws.start(configured_pipeline(chain), 3, 9) for chain in chains for _ in range(2)]
rows = [number // 3 for number in range(len(answers))]
logits = torch.randn(rows[-1] + 1, 1000)
draw_tokens(logits.log_softmax(-1), rows, answers, [4] * len(answers))
DistributionSketch.from_logits(logits[[0, 2]], top=96, tail=64)
"""


def compiled(cache: Path) -> set[str]:
    """The names of compiled functions in Numba's cache."""
    return {path.name for path in cache.rglob("*.nbc")}


def test_no_job_compiles_what_was_compiled_before(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(REPOSITORY / "scripts")}
    ahead = [sys.executable, "-m", "adaptive_samplers.engines.precompile"]
    subprocess.run(ahead, env=environment, check=True)
    before = compiled(tmp_path / "cache")
    assert len(before) > 10
    subprocess.run([sys.executable, "-c", DRAW, str(tmp_path)], env=environment, check=True)
    assert compiled(tmp_path / "cache") == before
