"""The declared plan of a comparison, and a run compared by it."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from adaptive_samplers.compare.families import UNDECIDED
from adaptive_samplers.compare.pages import protocol_page, write_latex
from adaptive_samplers.compare.planned import LEARNED_TOGETHER, compare_planned
from adaptive_samplers.compare.reading import read_results
from adaptive_samplers.compare.runs import judged_results
from adaptive_samplers.compare.temperatures import temperature_of, values_by_temperature
from adaptive_samplers.config.model.evaluation import Protocol
from adaptive_samplers.errors import UserError
from adaptive_samplers.figures.drawing import draw_figures
from adaptive_samplers.files import read_json, write_json
from adaptive_samplers.fronts import HEURISTICS_TOGETHER
from adaptive_samplers.heuristics import configured_pipeline, learned_heuristic, pipeline_name
from adaptive_samplers.measures import JUDGED_SPLITS
from adaptive_samplers.pages import comparison_page
from adaptive_samplers.protocol import declare, families_of, freeze, said_of_plans
from adaptive_samplers.rendering import write_tables
from adaptive_samplers.tables import write_table

LEARNED = {"SamplingNetwork/a0_b0_c1_top2": "SamplingNetwork imitation", "SamplingNetwork/a0_b0_c1_outcome": "better"}
CHAINS = {
    "temperature": [[{"temperature": 0.5}], [{"temperature": 1.0}]],
    "top_p": [[{"top_p": 0.9}], [{"temperature": 0.5}, {"top_p": 0.9}]],
    "pipeline": [[{"top_k": 1}]],
}
SEEDS = [0, 1]


class Inputs(SimpleNamespace):
    """A rule's inputs."""

    def get(self, name: str) -> Path | None:
        return getattr(self, name, None)


def heuristics() -> pd.DataFrame:
    rows = []
    for family, chains in CHAINS.items():
        for chain in map(configured_pipeline, chains):
            described = json.dumps([step.describe() for step in chain])
            name = pipeline_name(chain)
            rows.append({"heuristic_id": name, "name": name, "family": family, "processors": described})
    rows += [learned_heuristic(f"run/samplers/{name}", None, heat) for name in LEARNED for heat in (0.5, 1.0)]
    return pd.DataFrame(rows)


def prompts(first: str = "") -> pd.DataFrame:
    names = [f"{first}{split}{number:02}" for split in ("train", "validation", "test") for number in range(40)]
    return pd.DataFrame({"prompt_id": names, "split": np.repeat(["train", "validation", "test"], 40)})


def plan_of(**changes) -> dict:
    protocol = Protocol(**{"objectives": ["correctness"], "resamples": 200} | changes)
    return declare(protocol, prompts(), heuristics(), LEARNED, SEEDS, {"model": {"name": "small"}})


def test_a_plan_says_what_competes():
    plan = plan_of()
    assert plan["families"] == {
        "temperature": ["temperature_0.5", "temperature_1"],
        "raw logits": ["temperature_1"],
        "top_p": ["top_p_0.9", "temperature_0.5+top_p_0.9"],
        "greedy": ["top_k_1"],
        "SamplingNetwork imitation": [
            "SamplingNetwork a0_b0_c1 top2 temperature 0.5",
            "SamplingNetwork a0_b0_c1 top2",
        ],
        "better": ["SamplingNetwork a0_b0_c1 outcome temperature 0.5", "SamplingNetwork a0_b0_c1 outcome"],
    }
    assert plan["references"] == ["raw logits", "greedy"] and plan["claims"] == list(LEARNED.values())
    assert plan["tries"] == 2 and plan["splits"]["test"]["prompts"] == 40
    assert families_of(heuristics(), LEARNED) == plan["families"]


def test_whatever_changes_what_is_found_changes_the_plan():
    ids = [
        plan_of()["plan"],
        plan_of(tries=1)["plan"],
        plan_of(level=0.1)["plan"],
        plan_of(objectives=["quality"])["plan"],
    ]
    other = declare(Protocol(objectives=["correctness"], resamples=200), prompts("x"), heuristics(), LEARNED, SEEDS, {})
    assert len({*ids, other["plan"]}) == 5
    # Whether further plans are refused is not part of what is found.
    assert plan_of(further_plans="count")["plan"] == ids[0]


def test_plans_that_cannot_be_carried_out_are_refused():
    with pytest.raises(UserError, match=r"tries: 3 are more than the 2 configurations of the family 'temperature'"):
        plan_of(tries=3)
    given = Protocol(), prompts(), heuristics(), LEARNED, SEEDS, {}
    without = prompts().query("split != 'validation'")
    with pytest.raises(UserError, match="no prompt is in the split 'validation'"):
        declare(given[0], without, *given[2:])
    alone = heuristics().query("family == 'learned'")
    with pytest.raises(UserError, match="no heuristics to compare with"):
        declare(given[0], given[1], alone, *given[3:])


def frozen(
    tmp_path: Path, run: str = "one", policy: str = "refuse", shown: pd.DataFrame | None = None, **changes
) -> dict:
    output = tmp_path / run / "protocol" / "plan.json"
    shown = prompts() if shown is None else shown
    return freeze(plan_of(**changes), shown, run, False, policy, tmp_path, output)


def test_a_second_plan_over_the_same_prompts_is_refused_or_counted(tmp_path):
    assert frozen(tmp_path)["plans"] == 1
    assert frozen(tmp_path)["plans"] == 1, "the same plan again"
    assert frozen(tmp_path, run="two")["plans"] == 1, "the same plan of another run"
    first = plan_of()["plan"]
    with pytest.raises(UserError, match=rf"another plan, {first} of the run 'two', has read 40 of the 40 test prompts"):
        frozen(tmp_path, level=0.1)
    assert frozen(tmp_path, policy="count", level=0.1)["plans"] == 2
    assert frozen(tmp_path, policy="count", level=0.2)["plans"] == 3
    # Other prompts have not been read.
    assert frozen(tmp_path, run="three", shown=prompts("x"), level=0.3)["plans"] == 1
    # The first one has been followed by others.
    with pytest.raises(UserError, match="has read 40"):
        frozen(tmp_path)


def test_a_changed_plan_is_noticed(tmp_path):
    frozen(tmp_path)
    path = tmp_path / "one" / "protocol" / "plan.json"
    assert read_json(path)["plan"] == plan_of()["plan"]
    for changed in (path, *(tmp_path / "plans").glob("*.json")):
        changed.write_text(changed.read_text().replace("test", "tests"))
        with pytest.raises(UserError, match=rf"{changed.name} was changed after it was written"):
            read_json(changed)
    with pytest.raises(UserError, match="was changed after it was written"):
        frozen(tmp_path, level=0.1)


def run_folder(tmp_path: Path, better: float, missing: tuple[str, ...] = ()) -> Path:
    """A run whose labels are made up: answers of `better` are right more often by so much."""
    folder, generator = tmp_path / "run", np.random.default_rng(1)
    rows = heuristics()
    of_split = dict(tuple(prompts().groupby("split")))
    for part, split in JUDGED_SPLITS.items():
        (folder / part / "labels").mkdir(parents=True)
        write_table("heuristics", rows, folder / part / "heuristics.parquet")
        keys = pd.DataFrame(
            itertools.product(of_split[split]["prompt_id"], rows["heuristic_id"], SEEDS),
            columns=["prompt_id", "heuristic_id", "seed"],
        )
        chance = 0.4 + better * keys["heuristic_id"].isin(
            rows.loc[rows["name"].str.contains("outcome"), "heuristic_id"]
        )
        scores = (generator.uniform(size=len(keys)) < chance).astype(float)
        labels = keys.assign(score=scores, verifier="numeric", detail=None, error=None)
        labels.loc[labels["prompt_id"].isin(missing) & (labels["heuristic_id"] == "top_k_1"), "score"] = np.nan
        write_table("correctness", labels, folder / part / "labels" / "correctness.parquet")
    freeze(plan_of(), prompts(), "run", False, "refuse", tmp_path, folder / "protocol" / "plan.json")
    return folder


def compared(folder: Path) -> tuple[dict[str, pd.DataFrame], dict]:
    plan = read_json(folder / "protocol" / "plan.json")
    results, notes = judged_results(folder, heuristics(), plan["families"], plan["objectives"])
    return compare_planned(results, plan, 0, notes)


def test_a_planted_winner_of_a_run_is_found_and_no_other(tmp_path):
    tables, summary = compared(run_folder(tmp_path, better=0.5))
    pairs = tables["pairs"][tables["pairs"]["comparison"] == "families"]
    # Two learned families against two of heuristics and two references.
    assert len(pairs) == 8 and set(pairs.loc[pairs["verdict"] != UNDECIDED, "family"]) == {"better"}
    assert summary["claims"] == {"SamplingNetwork imitation": False, "better": True, LEARNED_TOGETHER: True}
    assert summary["comparisons"] == {"won": 4, "lost": 0, UNDECIDED: 4}
    assert summary["tries"] == {"families": 2, "overall": 4} and summary["plans"] == 1
    (overall,) = tables["pairs"][tables["pairs"]["comparison"] == "overall"].itertuples()
    assert (overall.family, overall.other) == (LEARNED_TOGETHER, HEURISTICS_TOGETHER)
    # Chosen on validation prompts, read on test prompts.
    values = pd.read_parquet(tmp_path / "run/evaluation/labels/correctness.parquet")
    row = tables["families"].query("comparison == 'overall' and family == @LEARNED_TOGETHER").iloc[0]
    ids = heuristics().set_index("name")["heuristic_id"]
    assert overall.difference == pytest.approx(
        row["value"]
        - tables["families"].query("comparison == 'overall' and family == @HEURISTICS_TOGETHER")["value"].iloc[0]
    )
    assert values.loc[values["heuristic_id"] == ids[row["chosen"]], "score"].mean() == pytest.approx(row["value"])


def test_prompts_without_all_values_count_for_nobody(tmp_path):
    folder = run_folder(tmp_path, better=0.0, missing=("test00", "test01", "validation03"))
    tables, summary = compared(folder)
    assert set(tables["pairs"]["n_prompts"]) == {38}
    assert [doubt for doubt in summary["doubts"] if "left out" in doubt] == [
        "correctness: 2 test prompts were left out, because not every sampler has a value there",
        "correctness: 1 validation prompts were left out, because not every sampler has a value there",
    ]
    # From the command line the folder is read by its plan too.
    (objective,) = read_results(folder).objectives
    assert objective.splits is not None and set(objective.families) == set(plan_of()["families"])


def test_temperatures_of_chains():
    chains = {
        1.0: [{"top_p": 0.9}],
        0.5: [{"temperature": 0.5}, {"top_p": 0.9}],
        0.7: [{"top_k": 5}, {"temperature": 0.7}],
        None: [{"temperature": 0.5}, {"temperature": 0.5}],
    }
    for heat, steps in chains.items():
        assert temperature_of(json.dumps([step.describe() for step in configured_pipeline(steps)])) == heat
    # One that depends on the distribution has no number.
    varying = {"dynamic_temperature": {"low": 0.5, "high": 1.5, "exponent": 1.0}}
    (step,) = configured_pipeline([varying])
    assert temperature_of(json.dumps([step.describe()])) is None


def test_values_at_a_temperature_are_of_the_configuration_that_validation_chooses(tmp_path):
    folder = run_folder(tmp_path, better=0.5)
    plan = read_json(folder / "protocol" / "plan.json")
    results, _ = judged_results(folder, heuristics(), plan["families"], plan["objectives"])
    table = values_by_temperature(results, heuristics().set_index("name")["processors"], 200, 0.9, 0)
    assert len(table) == 2 + 2 + 2 + 2 + 1 + 1  # of references one each
    labels = pd.read_parquet(folder / "evaluation/labels/correctness.parquet")
    ids = heuristics().set_index("name")["heuristic_id"]
    for row in table.itertuples():
        assert row.configurations == 1, "of each family one at each temperature"
        scores = labels.loc[labels["heuristic_id"] == ids[row.chosen]].groupby("prompt_id")["score"].mean()
        assert row.value == pytest.approx(scores.mean()) and row.low <= row.value <= row.high
    warm = table.set_index(["family", "temperature"])["chosen"]
    assert warm["top_p", 0.5] == "temperature_0.5+top_p_0.9" and warm["better", 1.0].endswith("outcome")


def test_pages_and_figures_say_what_was_found(tmp_path):
    folder = run_folder(tmp_path, better=0.5)
    tables, summary = compared(folder)
    plan = read_json(folder / "protocol" / "plan.json") | {"plans": 2}
    protocol_page(plan, tables["families"], tables["pairs"], summary, tmp_path / "page.html")
    write_latex(tables["families"], plan, tmp_path / "table.tex")
    page = (tmp_path / "page.html").read_text()
    for said in (plan["plan"], "read under 2 plans", "better is better", "4 were won and 0 lost", "greedy 1"):
        assert said in page
    assert (tmp_path / "table.tex").read_text().count(r"\midrule") == 2
    results, _ = judged_results(folder, heuristics(), plan["families"], plan["objectives"])
    heats = values_by_temperature(results, heuristics().set_index("name")["processors"], 50, 0.9, 0)
    for name, table in (tables | {"temperatures": heats}).items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    write_json(plan, tmp_path / "plan.json")
    files = {name: tmp_path / f"{name}.csv" for name in ("curves", "pairs", "temperatures", "points")}
    inputs = Inputs(plan=tmp_path / "plan.json", **files)
    figures = draw_figures("protocol", inputs, None)
    assert set(figures) == {"tries", "differences", "temperatures", "family_fronts"}
    # The plan has no measure of diversity.
    assert tables["fronts"].empty and "No two objectives" in figures["family_fronts"].axes[0].texts[0].get_text()
    # Bands and lines of four families with two temperatures each, and the legend's lines.
    assert len(figures["temperatures"].axes[0].lines) == 2 * 4
    (panel,) = figures["differences"].axes
    marks = [line for line in panel.lines if len(line.get_xdata()) == 1]
    filled = [line for line in marks if line.get_markerfacecolor() != "white"]
    assert len(marks) == 8 and len(filled) == 4
    said = "The test prompts were read under 2 plans."
    assert figures["differences"].get_supxlabel() == f"Difference on test prompts\n{said}"
    assert figures["tries"].get_supxlabel() == said == said_of_plans(inputs.plan)


def test_tables_say_under_how_many_plans(tmp_path):
    folder = run_folder(tmp_path, better=0.0)
    assert said_of_plans(folder / "protocol" / "plan.json") == said_of_plans(None) == ""
    rows = [("min_p", "min_p_0.1", "heuristic", "quality", 0.5, 0.4, 0.6, 9)]
    columns = ["family", "name", "kind", "objective", "mean", "low", "high", "n_prompts"]
    comparison = pd.DataFrame(rows, columns=columns)
    for said in ("", "Under 2 plans."):
        files = [tmp_path / f"table.{suffix}" for suffix in ("csv", "tex", "html")]
        write_tables(comparison, *files[:2], said)
        comparison_page(comparison, files[2], said)
        assert all(("Under 2 plans." in file.read_text()) == bool(said) for file in files)
