"""The target `paper` in the real DAG: what depends on a table is made again, and nothing else."""

import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from adaptive_samplers.files import read_json
from adaptive_samplers.hashing import file_sha256
from adaptive_samplers.paper.__main__ import main as check
from adaptive_samplers.tables import read_table, write_table
from support import Workflow

pytestmark = [pytest.mark.pipeline, pytest.mark.model]


@pytest.fixture(scope="module")
def papered(workflow, tmp_path_factory) -> Workflow:
    """A copy of the finished run, with its paper."""
    folder = tmp_path_factory.mktemp("papered") / "work"
    shutil.copytree(workflow.folder, folder, symlinks=True)
    copy = Workflow(folder)
    done = copy.run("paper")
    assert done.returncode == 0, done.stdout
    return copy


def rules_run(stdout: str) -> set[str]:
    """The rules that Snakemake's output says were run, but the target."""
    return set(re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", stdout)) - {"paper"}


def test_the_paper_is_whole(papered):
    assert papered.result("paper/paper.pdf").read_bytes().startswith(b"%PDF")
    manifest = read_json(papered.result("paper/MANIFEST.json"))
    assert 4 <= manifest["paper"]["pages"] <= 8
    assert manifest["paper"]["sha256"] == file_sha256(papered.result("paper/paper.pdf"))
    assert manifest["left_out"] == ["Families after equal tries"]
    assert len(manifest["numbers"]) > 50 and {number["table"] for number in manifest["numbers"]} > {"run", "comparison"}
    assert all(figure["pages"] for figure in manifest["figures"])
    assert check([str(papered.result(""))]) == 0
    assert papered.planned("paper") == {}


def test_the_portraits_that_the_paper_shows(papered):
    own = {"portray_sampler": 3, "plot_portraits": 1, "tabulate_portraits": 1, "portraits": 1}
    done = papered.run("portraits")
    assert done.returncode == 0, done.stdout
    assert "portray_sampler" not in rules_run(done.stdout), "the paper has them already"
    tables = {
        name: pd.read_csv(papered.result(f"tables/{name}.csv"))
        for name in ("portraits", "effective_temperature", "closed_form", "statistics")
    }
    assert {table["name"].nunique() for table in tables.values()} == {3}
    nearest = tables["portraits"][tables["portraits"]["closest"]]
    assert len(nearest) == 3 and nearest["explained"].between(0.3, 1).all()
    assert (tables["portraits"]["kl_low"] <= tables["portraits"]["kl_high"]).all()
    assert tables["portraits"]["total_variation"].between(0, 1).all()
    forms = tables["closed_form"]
    assert forms.groupby("name")["copied"].sum().tolist() == [1, 1, 1]
    # Samplers are functions of the log-probability, which a spline with many knots comes near to.
    assert (forms.groupby("name")["explained"].max() > 0.9).all()
    learned = tables["effective_temperature"].query("of == 'learned'").groupby("quantity")["median"]
    assert learned.min()["effective_temperature"] > 0.1 and learned.max()["effective_temperature"] < 3
    assert learned.min()["kept_count"] >= 1 and learned.max()["kept_mass"] <= 1
    # Each formula can be pasted, and gives every token a logit.
    formulas = papered.result("tables/closed_form.txt").read_text().split("\n\n")
    assert len(formulas) == 3
    for formula in formulas:
        names = {}
        exec(formula, names)
        assert np.isfinite(names["logits_to_sample_from"](np.linspace(-30.0, 5.0, 1000))).all()
    for name in ("portraits", "effective_temperature", "closed_form", "statistics"):
        assert papered.result(f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
    fewer = {"evaluation": {"portraits": {"states": 50}}}
    assert papered.planned("portraits", config=fewer) == own
    assert papered.planned("all", config=fewer) == {}


def change_fronts(papered):
    path = papered.result("evaluation/fronts.csv")
    table = pd.read_csv(path)
    table["hypervolume"] += 0.25
    table.to_csv(path, index=False)


def change_correlations(papered):
    path = papered.result("tables/label_correlations.csv")
    table = pd.read_csv(path)
    numbers = table.select_dtypes("float").columns
    table[numbers] *= 0.5
    table.to_csv(path, index=False)


def change_comparison(papered):
    path = papered.result("evaluation/comparison.parquet")
    table = read_table("comparison", path)
    table[["mean", "low", "high"]] += 0.125
    write_table("comparison", table, path)


@pytest.mark.parametrize(
    ("change", "rules", "in_paper"),
    [
        (change_fronts, {"write_paper"}, True),
        # A table that the paper does not show.
        (change_correlations, {"plot_labels", "tabulate_labels"}, False),
        (
            change_comparison,
            {
                *("plot_tradeoff", "plot_ranking", "tabulate_comparison", "record_provenance"),
                *("draw_tradeoff_for_paper", "draw_ranking_for_paper", "write_paper"),
            },
            True,
        ),
    ],
    ids=["fronts", "label_correlations", "comparison"],
)
def test_a_changed_table_rebuilds_what_depends_on_it(papered, change, rules, in_paper):
    before = papered.result("paper/paper.pdf").read_bytes()
    change(papered)
    assert check([str(papered.result(""))]) == in_paper
    done = papered.run("paper")
    assert done.returncode == 0, done.stdout
    assert rules_run(done.stdout) == rules
    assert (papered.result("paper/paper.pdf").read_bytes() != before) == in_paper
    assert check([str(papered.result(""))]) == 0


def test_a_figure_alone_takes_seconds(papered):
    papered.result("paper/figures/ranking.pdf").unlink()
    # The processor's time: other tests, and other people's jobs, may share the machine.
    before = os.times()
    done = papered.run("paper")
    after = os.times()
    took = after.children_user + after.children_system - before.children_user - before.children_system
    assert done.returncode == 0, done.stdout
    assert rules_run(done.stdout) == {"draw_ranking_for_paper", "write_paper"}
    assert took < 30


def test_one_column_draws_the_figures_anew_and_reads_nothing_else(papered):
    change = {"report": {"distributions": 2, "columns": 1}}
    assert all(rule == "write_paper" or rule.endswith("_for_paper") or rule == "paper"
               for rule in papered.planned("paper", config=change))  # fmt: skip
    done = papered.run("paper", config=change)
    assert done.returncode == 0, done.stdout
    assert read_json(papered.result("paper/MANIFEST.json"))["paper"]["columns"] == 1
