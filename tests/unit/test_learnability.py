"""Learning single heuristics: the overlap of what is kept, against counting by hand, and the table."""

import math

import pandas as pd
import pytest
import torch
from test_sketch import zipf_logits
from torch import nn

from adaptive_samplers.heuristics import apply_on_support, configured_pipeline
from adaptive_samplers.rendering import write_learnability
from adaptive_samplers.sketch import DistributionSketch
from adaptive_samplers.training.learnability import kept_overlap
from adaptive_samplers.training.trainer import TokenSteps


class Steep(nn.Module):
    """Lowers what is more than `depth` nats below the most probable token by five nats a nat."""

    def __init__(self, depth: float) -> None:
        super().__init__()
        self.depth = nn.Parameter(torch.tensor(depth))

    def forward(self, t, n):
        return t - 5 * (t[:, :1] - t - self.depth).clamp(min=0)


def steps_of(*chain, rows=12) -> TokenSteps:
    sketch = DistributionSketch.from_logits(zipf_logits(rows, 3000), 64, 64)
    target = apply_on_support(sketch.t, sketch.n, [configured_pipeline(chain)] * rows)
    return TokenSteps(sketch.t, sketch.n, target.t, target.n)


def test_overlap_is_counted_in_tokens():
    steps = steps_of({"top_k": 30})
    depth = 2.0
    cut = depth + math.log(2) / 5  # there, the odds are halved
    expected = []
    for t, n, kept in zip(steps.t.tolist(), steps.n.tolist(), steps.kept.tolist(), strict=True):
        both = either = 0.0
        for logit, count, left in zip(t, n, kept, strict=True):
            mine = count if t[0] - logit <= cut else 0.0
            both += min(mine, left)
            either += max(mine, left)
        expected.append(both / either)
    assert kept_overlap(Steep(depth), steps) == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    assert 0.05 < kept_overlap(Steep(depth), steps) < 0.95


def test_a_sampler_that_cuts_where_the_heuristic_does_overlaps_wholly():
    assert kept_overlap(Steep(-math.log(0.1) - math.log(2) / 5), steps_of({"min_p": 0.1})) > 0.97


@pytest.mark.parametrize("chain", [[{"temperature": 0.7}], [{"temperature": 0.7}, {"top_p": 0.9}]])
def test_there_is_no_overlap_to_tell_where_odds_change_or_nothing_is_cut(chain):
    assert kept_overlap(Steep(2.0), steps_of(*chain)) is None
    assert kept_overlap(Steep(2.0), steps_of({"top_k": 10**6})) is None


def test_tables(tmp_path):
    rows = pd.DataFrame(
        [
            {"architecture": architecture, "heuristic": heuristic, "kl": kl, "identity_kl": raw, "kept_overlap": 0.5}
            for heuristic, raw in (("top_p_0.9", 0.08), ("min_p_0.1", 0.3))
            for architecture, kl in (("Local", 0.05), ("SamplingNetwork", 0.0072))
        ]
    )
    write_learnability(rows, tmp_path / "l.csv", tmp_path / "l.tex")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "l.csv"), rows)
    latex = (tmp_path / "l.tex").read_text()
    assert r"top\_p\_0.9 & 0.0800 & 0.0500 & 0.0072 \\" in latex
    assert all(line.count("&") == 3 for line in latex.splitlines() if line.endswith(r"\\"))
