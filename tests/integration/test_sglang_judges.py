"""Judges behind a real SGLang server: the same verdicts as in process, and failures with their reasons."""

from itertools import combinations

import numpy as np
import pytest

from adaptive_samplers.config.model.labels import Tournament
from adaptive_samplers.labels.judges.build import open_judge
from adaptive_samplers.labels.quality import label_quality
from adaptive_samplers.labels.tournament import Comparison
from support import in_whole
from tiny_judges import PROMPTS, judge_config, tiny_answers, write_judge

pytestmark = pytest.mark.sglang

ANSWERS = tiny_answers()
ANSWERS.loc[2, "text"] = "word " * 400  # too long for the model
TOURNAMENT = Tournament(schedule="round_robin", regularization=0.1)
PAIRS = [
    Comparison(group, first, second)
    for group, rows in ANSWERS[ANSWERS["finish_reason"] != "error"].groupby(["prompt_id", "seed"])
    for first, second in combinations(rows["heuristic_id"], 2)
]


@pytest.mark.parametrize("kind", ["scalar", "pairwise", "likelihood"])
def test_verdicts_are_those_of_the_model_in_process(kind, tiny_model_folder, sglang_settings, tmp_path):
    folder = write_judge(tiny_model_folder, tmp_path / "model", kind)
    found = {}
    for engine in ("transformers", "sglang"):
        place = tmp_path / engine
        place.mkdir()
        config = judge_config(kind, engine=engine, sglang=sglang_settings)
        inputs = {"judge_model": str(folder)}
        with open_judge(config, PROMPTS, inputs, place / "out", place / "log") as judge:
            judge.read(ANSWERS)
            outcomes = judge.compare(PAIRS)
            labels, report = in_whole(label_quality, [ANSWERS], judge, TOURNAMENT, 1.0, seed=1)
            found[engine] = outcomes, labels, report, judge.failures
        assert [path.name for path in place.iterdir()] == ["log.server.log"] * (engine == "sglang")
    (expected, expected_labels, expected_report, _), (outcomes, labels, report, failures) = found.values()
    np.testing.assert_allclose(outcomes, expected, atol=1e-4)
    np.testing.assert_allclose(labels["reward"], expected_labels["reward"], atol=1e-4)
    np.testing.assert_allclose(labels["rating"], expected_labels["rating"], atol=1e-3)
    assert np.nanstd(expected) > 0.05
    # Of the four answers that the long one could meet, two read the same.
    assert report["failed"] == expected_report["failed"] == 3
    assert {reason for _, reason in failures} == {"longer than 120 tokens"}
    for name in ("position_bias", "orders_disagree", "label_mass"):
        assert report["judge"].get(name) == pytest.approx(expected_report["judge"].get(name), abs=1e-4)
