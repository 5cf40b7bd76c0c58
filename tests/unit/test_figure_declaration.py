"""A figure is declared once, whole or not at all, and its rule, its files and the targets follow."""

import re

import pytest

from adaptive_samplers.figures.declaration import Plot, Shown
from support import REPOSITORY, SMOKE, of_workflow

SHOWN = {"label": "Ranking", "category": "Comparison", "caption": "ranking"}
WHOLE = {"name": "ranking", "inputs": {"table": "t"}, "figures": {"ranking": Shown(**SHOWN)}, "message": "Plotting"}
# What plots write, and what the target asks for, which writes nothing.
FILES = """{
    rule.name: list(map(str, rule.output or rule.input))
    for rule in workflow.rules
    if rule.name.startswith("plot_") or rule.name == "figures"
}"""


@pytest.mark.parametrize("part", SHOWN)
def test_what_a_report_needs_is_declared(part):
    with pytest.raises(ValueError, match=f"lacks its {part}"):
        Shown(**SHOWN | {part: ""})


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"inputs": {}, "message": ""}, "'ranking' lacks its inputs and its message"),
        ({"figures": {}}, "figures"),
        ({"group": ""}, "group"),
        ({"drawn_by": "nobody"}, "lacks its module, adaptive_samplers/figures/nobody.py"),
    ],
)
def test_what_a_rule_needs_is_declared(change, missing):
    plot = Plot(**WHOLE)
    assert plot.drawn_by == "ranking" and plot.stage == "figures"
    assert plot.files == ["figures/ranking.pdf", "figures/ranking.png"]
    with pytest.raises(ValueError, match=missing):
        Plot(**WHOLE | change)


@pytest.mark.parametrize("enabled", [False, True])
def test_targets_follow_from_what_is_declared(enabled):
    more = {group: {"enabled": enabled} for group in ("repeated_sampling", "protocol")}
    change = {"evaluation": SMOKE["evaluation"] | more}
    files = of_workflow(FILES, REPOSITORY, "config/presets/smoke.yaml", change=change)
    asked = files.pop("figures")
    optional = ["plot_repeated_sampling", "plot_protocol"] if not enabled else []
    for apart in ["plot_learnability", "plot_portraits", "plot_off_policy", "plot_rounds", *optional]:
        del files[apart]
    # Of the first generation of samplers, which has no folder of its own.
    made = [file for outputs in files.values() for file in outputs]
    made = [re.sub(r"\{sampler_generation[^}]*\}", "", re.sub(r"\{run[^}]*\}", "smoke", file)) for file in made]
    assert sorted(asked) == sorted(made)
