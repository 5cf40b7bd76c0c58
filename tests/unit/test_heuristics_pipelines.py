"""Pipelines of heuristics: names, ids, the grid, parsing; and how a heuristic is declared."""

import json
import textwrap

import pytest
import torch
import yaml
from heuristic_references import step_of
from test_sketch import zipf_logits

from adaptive_samplers.config.document import document_families
from adaptive_samplers.config.load import load_config
from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_id
from adaptive_samplers.heuristics import (
    HEURISTICS,
    Numbers,
    Support,
    apply_on_support,
    apply_to_logits,
    configured_pipeline,
    expand_heuristics,
    heuristic,
    learned_heuristic,
    parse_processors,
    pipeline_name,
)
from adaptive_samplers.sketch import DistributionSketch
from support import REPOSITORY


def test_names_follow_the_order_of_steps(tmp_path):
    assert pipeline_name((step_of("temperature", 0.7), step_of("min_p", 0.05))) == "temperature_0.7+min_p_0.05"
    assert pipeline_name((step_of("top_k", 50), step_of("temperature", 1.0))) == "top_k_50+temperature_1"
    learned = step_of("learned", "results/demo/samplers/SamplingNetwork/a0.7_b0.3_c0_top2")
    assert pipeline_name((learned,)) == "learned_SamplingNetwork/a0.7_b0.3_c0_top2"
    assert pipeline_name((step_of("top_p", 0.9), step_of("learned", "mine"))) == "top_p_0.9+learned_mine"
    assert (
        pipeline_name((step_of("p_less"), step_of("quadratic", 0.2, 1.0)))
        == "p_less+quadratic_smoothing_factor_0.2_curve_1"
    )


def test_a_learned_row():
    row = learned_heuristic("results/demo/samplers/SamplingNetwork/a0.7_b0.3_c0_top2")
    assert row["name"] == "SamplingNetwork a0.7_b0.3_c0 top2" and row["family"] == "learned"
    (step,) = parse_processors(row["processors"])
    assert step == step_of("learned", "results/demo/samplers/SamplingNetwork/a0.7_b0.3_c0_top2")
    assert row["heuristic_id"] == content_id(json.loads(row["processors"]))


def test_a_learned_step_may_have_a_preference():
    """Steps without one are as they were, and so are their ids."""
    folder = "samplers/ConditionedSamplingNetwork/a0_b1_c0_outcome"
    (plain,) = configured_pipeline([{"learned": folder}])
    (step,) = chain = configured_pipeline([{"learned": {"path": folder, "preference": 0}}])
    assert step.values == (folder, 0.0) and plain.values == (folder,)
    assert step.describe() == {"name": "learned", "params": {"path": folder, "preference": 0.0}}
    assert plain.describe() == {"name": "learned", "params": {"path": folder}} and plain.preference is None
    written = json.dumps([{"name": "learned", "params": {"preference": 0, "path": folder}}])
    assert parse_processors(written) == parse_processors([step.describe()]) == chain
    assert pipeline_name(chain) == "learned_ConditionedSamplingNetwork/a0_b1_c0_outcome_preference_0"
    rows = [learned_heuristic(folder, preference) for preference in (None, 0, 0.3)]
    assert [row["name"] for row in rows] == [
        "ConditionedSamplingNetwork a0_b1_c0 outcome",
        "ConditionedSamplingNetwork a0_b1_c0 outcome preference 0",
        "ConditionedSamplingNetwork a0_b1_c0 outcome preference 0.3",
    ]
    assert len({row["heuristic_id"] for row in rows}) == 3
    assert parse_processors(rows[2]["processors"])[0].preference == 0.3


def test_the_grid_is_every_value_at_every_temperature():
    rows = expand_heuristics(
        Heuristics(
            grid=[
                {"family": "temperature", "temperatures": [0.3, 1]},
                {"family": "top_k", "values": [10, 50], "temperatures": [0.7, 1.0]},
                {"family": "min_p", "values": [0.1]},
                {"family": "p_less", "temperatures": [1.5]},
                {"family": "quadratic", "values": [{"curve": 1, "smoothing_factor": 0.2}]},
            ],
            pipelines=[
                [{"top_k": 50}, {"top_p": 0.95}, {"temperature": 0.8}],
                [{"p_less": None}, {"mirostat": {"eta": 0.1, "tau": 3}}],
            ],
        )
    )
    assert [row["name"] for row in rows] == [
        "temperature_0.3",
        "temperature_1",  # changes nothing, but is all there is
        "temperature_0.7+top_k_10",
        "top_k_10",
        "temperature_0.7+top_k_50",
        "top_k_50",
        "min_p_0.1",
        "temperature_1.5+p_less",
        "quadratic_smoothing_factor_0.2_curve_1",
        "top_k_50+top_p_0.95+temperature_0.8",
        "p_less+mirostat_tau_3_eta_0.1",
    ]
    families = [*["temperature"] * 2, *["top_k"] * 4, "min_p", "p_less", "quadratic", "pipeline", "pipeline"]
    assert [row["family"] for row in rows] == families
    for row in rows:
        chain = parse_processors(row["processors"])
        assert pipeline_name(chain) == row["name"]
        assert row["heuristic_id"] == content_id([step.describe() for step in chain])
    assert len({row["heuristic_id"] for row in rows}) == len(rows)


def test_ids_follow_from_content_alone():
    one = expand_heuristics(Heuristics(grid=[{"family": "top_p", "values": [0.9], "temperatures": [1.0, 0.5]}]))
    other = expand_heuristics(Heuristics(pipelines=[[{"temperature": 0.5}, {"top_p": 0.9}], [{"top_p": 0.9}]]))
    assert [row["heuristic_id"] for row in one] == [row["heuristic_id"] for row in other[::-1]]


def test_ids_are_those_of_earlier_versions():
    """A run that exists goes on with its answers: what names them must not change."""
    rows = expand_heuristics(
        Heuristics(
            grid=[{"family": "top_k", "values": [10], "temperatures": [0.7]}],
            pipelines=[[{"top_k": 50}, {"top_p": 0.95}, {"temperature": 1}]],
        )
    )
    assert [row["heuristic_id"] for row in rows] == ["f40e27749beb76d2", "56c4974993d9c132"]


def test_a_heuristic_that_was_defined_anew_has_another_id():
    """Answers of the old definition are generated again, and no others."""
    [row] = expand_heuristics(Heuristics(grid=[{"family": "top_h", "values": [0.4]}]))
    described = json.loads(row["processors"])
    assert described == [{"name": "top_h", "params": {"alpha": 0.4}}]
    assert row["heuristic_id"] == content_id([{**described[0], "version": 2}]) != content_id(described)


def test_the_interchange_form_comes_back():
    pipeline = (step_of("temperature", 0.7), step_of("top_k", 10), step_of("learned", "a/b"))
    described = [step.describe() for step in pipeline]
    assert described[1] == {"name": "top_k", "params": {"k": 10}}
    assert parse_processors(described) == parse_processors(json.dumps(described)) == pipeline
    several = [{"name": "p_less", "params": {}}, {"name": "quadratic", "params": {"curve": 2, "smoothing_factor": 1}}]
    assert parse_processors(several) == (step_of("p_less"), step_of("quadratic", 1, 2))
    assert parse_processors("[]") == ()


@pytest.mark.parametrize(
    ("processors", "message"),
    [
        ([{"name": "top_q", "params": {"p": 0.9}}], "unknown processor 'top_q'.*top_p"),
        ([{"name": "top_p", "params": {"top_p": 0.9}}], "'top_p' takes the parameters \\['p'\\]"),
        ([{"name": "top_p", "params": {"p": 0.9, "k": 3}}], "'top_p' takes the parameters \\['p'\\]"),
        ([{"name": "top_p", "params": {}}], "'top_p' takes the parameters \\['p'\\]"),
        ([{"name": "learned", "params": {"folder": "x"}}], "'learned' takes the parameters \\['path'\\]"),
        (
            [{"name": "learned", "params": {"preference": 1}}],
            "'learned' takes the parameters \\['path', 'preference'\\]",
        ),
        ([{"name": "learned", "params": {"path": "x", "preference": 2}}], "at least 0 and at most 1, not 2"),
        ([{"name": "learned", "params": {"path": "x", "preference": "high"}}], "at most 1, not 'high'"),
        ([{"name": "p_less", "params": {"p": 1}}], "'p_less' takes no parameters"),
        ([{"name": "top_p"}], "a processor has a name and params"),
        ([{"top_p": 0.9}], "a processor has a name and params"),
        ("[{", "Expecting"),
    ],
)
def test_what_is_no_pipeline_is_refused(processors, message):
    with pytest.raises(ValueError, match=message):
        parse_processors(processors)


def test_a_heuristic_is_added_by_one_function():
    """As docs/add_a_heuristic.md says: on logits, on a sketch, and in a config."""
    document = (REPOSITORY / "docs" / "add_a_heuristic.md").read_text()
    code = textwrap.dedent(document.split("```python\n")[1].split("```")[0])
    before = dict(HEURISTICS)
    try:
        exec(code, {"heuristic": heuristic, "Numbers": Numbers, "Support": Support, "Tensor": torch.Tensor})
        chain = (step_of("top_a", 0.5),)
        logits = torch.log(torch.tensor([[0.5, 0.25, 0.126, 0.119, 0.005]]))
        assert apply_to_logits(logits, [chain])[0].isfinite().tolist() == [True, True, True, False, False]
        many = zipf_logits(6, 20_000, seed=3) / 3
        sketch = DistributionSketch.from_logits(many, 64, 512)
        full, part = apply_to_logits(many, [chain] * 6), apply_on_support(sketch.t, sketch.n, [chain] * 6)
        ours = (part.n * sketch.t.exp()).sum(-1)
        torch.testing.assert_close(ours, (many.softmax(-1) * full.isfinite()).sum(-1), rtol=0, atol=1e-3)

        raw = yaml.safe_load((REPOSITORY / "config" / "config.yaml").read_text())
        raw["heuristics"]["grid"] = [{"family": "top_a", "values": [0.2], "temperatures": [0.7, 1.0]}]
        raw["scoring"]["top_k"] = [1]
        names = [
            row["name"]
            for row in expand_heuristics(Heuristics(grid=load_config(raw, REPOSITORY)["heuristics"]["grid"]))
        ]
        assert names == ["temperature_0.7+top_a_0.2", "top_a_0.2"]
        raw["heuristics"]["grid"][0]["values"] = [1.5]
        with pytest.raises(
            UserError, match=r"1\.5 is out of range for top_a's a; allowed: a number of at least 0 and at most 1"
        ):
            load_config(raw, REPOSITORY)
        assert "| `top_a` | `a`: a number of at least 0 and at most 1 | Keep tokens" in document_families()
    finally:
        HEURISTICS.clear()
        HEURISTICS.update(before)


def test_what_is_declared_must_be_what_the_function_takes():
    for declared in ({"k": Numbers()}, {}, {"p": Numbers(), "start": {"mu": lambda p: 0.0}}):
        with pytest.raises(TypeError, match=r"heuristic 'broken' takes the parameters \['p'\] and the state \[\]"):

            @heuristic(**declared)
            def broken(support, p):
                return support

    assert "broken" not in HEURISTICS
