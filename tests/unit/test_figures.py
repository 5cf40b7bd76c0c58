"""Figures hold what they should, do not overlap, and are the same bytes for the same data."""

import json
import re
import subprocess
import sys
from itertools import combinations, product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from docutils.core import publish_parts
from jinja2 import Environment, StrictUndefined
from matplotlib.colors import to_hex
from matplotlib.text import Text
from PIL import Image

from adaptive_samplers.errors import UserError
from adaptive_samplers.figures.curves import curves
from adaptive_samplers.figures.distributions import REST, distributions
from adaptive_samplers.figures.labels import label_correlations, label_distributions
from adaptive_samplers.figures.learnability import learnability
from adaptive_samplers.figures.portraits import (
    closed_forms,
    effective_temperatures,
    nearest_heuristics,
    statistics,
)
from adaptive_samplers.figures.protocol import marks_of, plot_temperatures
from adaptive_samplers.figures.ranking import ranking
from adaptive_samplers.figures.repeated_sampling import coverage, selecting
from adaptive_samplers.figures.selection import by_family_and_temperature, kept
from adaptive_samplers.figures.style import (
    LEARNED_COLOR,
    balanced_columns,
    family_marks,
    printable,
    save,
)
from adaptive_samplers.figures.tradeoff import pareto_front, tradeoff
from adaptive_samplers.label_summary import correlations
from adaptive_samplers.label_summary.distributions import distribution
from adaptive_samplers.measures import MEASURES, OBJECTIVES
from adaptive_samplers.tables import SCHEMAS
from support import REPOSITORY

ARCHITECTURES = ["LocalProbabilityTransform", "SimpleDistributionAwareTransform", "SamplingNetwork"]
LONG = "a0_b1_c0 best_answers preference 0.5"
WEIGHTS = ["a0_b1_c0 top2", "a0.7_b0.3_c0 top2"]
CUTS = {"top_k": 10, "top_p": 0.9, "min_p": 0.1, "typical": 0.9, "epsilon": 0.01, "eta": 0.01}
HEURISTICS = [
    *(("temperature", f"temperature_{value:g}") for value in (0.3, 0.5, 0.7, 1.0)),
    *((family, f"temperature_0.7+{family}_{value:g}") for family, value in CUTS.items()),
    *((family, f"{family}_{value:g}") for family, value in CUTS.items()),
    ("pipeline", "top_k_50+top_p_0.95+temperature_0.8"),
]
LEARNED = [("learned", f"{architecture} {weights}") for architecture in ARCHITECTURES for weights in WEIGHTS]


def comparison_of(samplers, objectives=("quality", "embedding_entropy", "self_bleu")):
    generator = np.random.default_rng(0)
    rows = []
    for family, name in samplers:
        trade = generator.uniform(0, 1)
        for objective in objectives:
            up = objective == "embedding_entropy"
            mean = (trade if up else 1 - trade) + generator.normal(0, 0.1)
            kind = "learned" if family == "learned" else "heuristic"
            rows.append((family, name, kind, objective, mean, mean - 0.1, mean + 0.1, 16))
    columns = ["family", "name", "kind", "objective", "mean", "low", "high", "n_prompts"]
    return pd.DataFrame(rows, columns=columns)


def panel(learned=ARCHITECTURES):
    return {
        "context": "What does $5 buy?\nassistant\nFive dollars buy",
        "chosen_token": " a",
        "heuristic": "temperature_0.7+min_p_0.1",
        "tokens": [" a", " $", "\n", "\u6d77", " you"],
        "raw": [0.4, 0.2, 0.1, 0.05, 0.05],
        "target": [0.7, 0.3, 0.0, 0.0, 0.0],
        "learned": {name: [0.6, 0.25, 0.05, 0.0, 0.0] for name in learned},
        "tail_mass": {"raw": 0.2, "target": 0.0} | dict.fromkeys(learned, 0.1),
    }


def training_curves(weights=WEIGHTS):
    histories, metrics = {}, {}
    for architecture in ARCHITECTURES:
        for name in weights:
            step = np.arange(0, 100, 10)
            loss = np.exp(-step / 30)
            parts = [
                pd.DataFrame({"step": step, "split": split, "loss": loss, "kl": loss / 2, "learning_rate": 0.003})
                for split in ("train", "validation")
            ]
            histories[architecture, name] = pd.concat(parts, ignore_index=True)
            metrics[architecture, name] = {"identity_loss": 1.5, "identity_kl": 0.75}
    return histories, metrics


def heuristics_table():
    return pd.DataFrame(HEURISTICS, columns=["family", "name"])


def training_sets(weights=WEIGHTS):
    names = [name for _, name in HEURISTICS]
    return {name: pd.DataFrame({"name": [names[0]] * 3 + [names[1]]}) for name in weights}


def learned_heuristics():
    rows = []
    for number, (family, value) in enumerate([("temperature", 0.7), *CUTS.items()]):
        for column, architecture in enumerate(ARCHITECTURES):
            kl = 0.2 * 0.1 ** (number * column / 2)
            overlap = None if family == "temperature" else 1 - kl
            name = f"{family}_{value:g}"
            rows.append((architecture, name, kl, 0.25, overlap))
    return pd.DataFrame(rows, columns=["architecture", "heuristic", "kl", "identity_kl", "kept_overlap"])


def labels():
    """Labels of many answers to prompts of four kinds, of which two have nothing to verify."""
    generator = np.random.default_rng(3)
    kinds = ["chat", "creative", "factual", "verifiable"]
    answers = pd.DataFrame({"prompt": np.arange(2400) // 60, "group": np.arange(2400) // 3})
    for place, measure in enumerate(MEASURES.values()):
        values = generator.normal(0, 10.0 ** (place % 5 - 2), len(answers)) + answers["prompt"] * (place % 3 - 1)
        answers[measure.column] = values.groupby(answers["group"]).transform("first") if measure.of_group else values
    answers.loc[answers["prompt"] < 20, "score"] = np.nan
    columns = list(MEASURES)
    units = {True: "group", False: "answer"}
    found = {
        measure.column: {"unit": units[measure.of_group]}
        | distribution(answers[measure.column].to_numpy(), answers["prompt"].to_numpy() // 10, kinds)
        for measure in MEASURES.values()
    }
    correlated = [measure.column for measure in MEASURES.values() if measure.correlated]
    return found, columns, correlations(answers, correlated), correlated


def repeated_sampling():
    """What 16 samples of 40 prompts are worth to every sampler, by plain formulas, and the power laws."""
    rows, laws = [], []
    for number, (family, name) in enumerate(HEURISTICS + LEARNED):
        kind = "learned" if family == "learned" else "heuristic"
        a, b = -2.5 + 0.05 * number, -0.4
        laws.append((family, name, kind, a, b, 0.1, 0.02, 0.99, 0.01, 5, 40, None))
        for n in (1, 2, 4, 8, 16):
            covered = np.exp(a * n**b)
            for method, prompts, mean in (
                ("pass_at_k", "verifiable", covered),
                ("best_of_n", "verifiable", 0.9 * covered),
                ("pass_at_k", "final_answer", covered**2),
                ("best_of_n", "final_answer", 0.5 * covered),
                ("majority_vote", "final_answer", 0.4 * covered),
                ("weighted_majority_vote", "final_answer", 0.6 * covered),
            ):
                interval = (mean, mean - 0.05, mean + 0.05, 40 if prompts == "verifiable" else 20)
                rows.append((family, name, kind, method, "correctness", prompts, None, n, float(n), *interval))
            interval = (np.log(n + number), np.log(n + number) - 0.2, np.log(n + number) + 0.2, 60)
            rows.append((family, name, kind, "best_of_n", "reward", "all", "reward", n, float(n), *interval))
        interval = (0.5 * covered, 0.4 * covered, 0.6 * covered, 20)
        rows.append(
            (family, name, kind, "adaptive_consistency", "correctness", "final_answer", None, 16, 7.3, *interval)
        )
    tables = SCHEMAS["repeated_sampling"].names, SCHEMAS["power_laws"].names
    return pd.DataFrame(rows, columns=tables[0]), pd.DataFrame(laws, columns=tables[1])


CHAINS = {
    "temperature": {"temperature": 0.8},
    "epsilon+temperature": {"epsilon": 3.7e-05, "temperature": 0.8539},
    "temperature+top_h_renormalized": {"temperature": 0.8498, "top_h_renormalized": 0.9798},
    "temperature+top_k+top_p": {"temperature": 0.8547, "top_k": 1234, "top_p": 0.999},
    "typical": {"typical": 0.95},
    "eta": {"eta": 0.0013},
    "top_p+temperature": {"top_p": 0.999, "temperature": 0.8},
    "top_p": {"top_p": 0.9},
}


def portraits(names=WEIGHTS):
    """Of three architectures and some lessons; as `portray` makes them, with what figures read."""
    generator = np.random.default_rng(0)
    made = []
    for place, (weights, architecture) in enumerate(product(names, ARCHITECTURES)):
        heuristics = []
        for (chain, steps), explained in zip(
            CHAINS.items(), [0.9, 0.99, 0.98, 0.97, 0.4, 0.3, 0.9001, -2.0], strict=True
        ):
            described = [{"name": name, "params": {"x": value}} for name, value in steps.items()]
            family = "+".join(name for name in steps if name != "temperature") or "temperature"
            row = {"family": family, "chain": chain, "steps": len(steps), "processors": json.dumps(described)}
            row |= {"explained": explained, "explained_low": explained - 0.1, "explained_high": explained + 0.005}
            heuristics.append(row | {"kl": 0.2 * (1 - explained), "kl_raw": 0.2})
        effects = [
            {"of": of, "quantity": quantity, "entropy": entropy}
            | {"lower_quartile": 0.7 * value, "median": value, "upper_quartile": 1.3 * value}
            for of in ("learned", "closest heuristic", "raw")
            for quantity, scale in (("effective_temperature", 0.8), ("kept_mass", 0.7), ("kept_count", 100))
            for entropy, value in zip(range(5), scale * generator.uniform(0.5, 1, 5), strict=True)
            if (of, quantity) != ("raw", "effective_temperature")
        ]
        shuffled = [{"method": "permutation", "statistic": None, "note": "not applicable"}]
        if architecture == "SimpleDistributionAwareTransform":
            shuffled = [
                {"method": "permutation", "statistic": name, "kl": 0.06, "kl_low": 0.04, "kl_high": 0.09}
                for name in ("largest log-probability", "entropy", "all of them")
            ]
        regressed = [
            {"method": "regression", "statistic": name, "r_squared": value, "lost_r_squared": value / 3}
            for name, value in {"entropy": 0.5, "log-probability at mass 0.5": -0.1}.items()
        ]
        log_probs = np.linspace(-12, 0, 20).tolist()
        curve = {"log_prob": log_probs, "learned": log_probs, "closed_form": [x * 1.1 for x in log_probs]}
        made.append(
            {
                "name": f"{architecture} {weights}",
                "architecture": architecture,
                "heuristics": heuristics,
                "effects": effects,
                "closed_forms": [{"copied": True, "parameters": 39, "explained": None if place else 0.994}],
                "statistics": shuffled + regressed,
                "curves": [curve | {"entropy": entropy} for entropy in (1.2, 2.4, 3.6)],
            }
        )
    return made


FAMILIES = {"families": ["temperature", "top_p", "SamplingNetwork outcome"], "claims": ["SamplingNetwork outcome"]}


def by_temperature() -> pd.DataFrame:
    """Families at temperatures some of which are near each other, as those of heuristics and after samplers are."""
    columns = ["objective", "family", "temperature", "value", "low", "high"]
    rows = [
        (objective, family, heat, 1 - heat / 2, 0.9 - heat / 2, 1.1 - heat / 2)
        for objective in ("correctness", "embedding_entropy", "quality")
        for family in FAMILIES["families"]
        for heat in ((0.5, 0.75, 1.0) if family in FAMILIES["claims"] else (0.3, 0.7, 1.2))
    ]
    return pd.DataFrame(rows, columns=columns)


ALL = {
    "portraits": lambda: nearest_heuristics(portraits()),
    "effective_temperature": lambda: effective_temperatures(portraits([*WEIGHTS, LONG])),
    "closed_form": lambda: closed_forms(portraits([*WEIGHTS, LONG])),
    "statistics": lambda: statistics(portraits()),
    "label_distributions": lambda: label_distributions(*labels()[:2]),
    "label_correlations": lambda: label_correlations(*labels()[2:]),
    "coverage": lambda: coverage(*repeated_sampling()),
    "selecting": lambda: selecting(repeated_sampling()[0]),
    "learnability": lambda: learnability(learned_heuristics()),
    "tradeoff": lambda: tradeoff(comparison_of(HEURISTICS + LEARNED)),
    "ranking": lambda: ranking(comparison_of(HEURISTICS + LEARNED)),
    "distributions": lambda: distributions([panel()] * 3),
    "curves": lambda: curves(*training_curves()),
    "kept": lambda: kept(training_sets(), heuristics_table()),
    "temperatures": lambda: plot_temperatures(by_temperature(), marks_of(FAMILIES), FAMILIES["claims"]),
}


def texts(figure):
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def strings(figure):
    return {text.get_text() for text in texts(figure)}


@pytest.mark.parametrize("name", ALL)
def test_saved_files_are_whole_and_the_same_twice(name, tmp_path):
    first = save(ALL[name](), tmp_path / "first" / f"{name}_a0.7", ["pdf", "png", "svg"])
    second = save(ALL[name](), tmp_path / "second" / f"{name}_a0.7", ["pdf", "png", "svg"])
    assert [path.name for path in first] == [f"{name}_a0.7.{form}" for form in ("pdf", "png", "svg")]
    for one, other in zip(first, second, strict=True):
        assert one.stat().st_size > 5_000
        assert one.read_bytes() == other.read_bytes()
    assert b"/Subtype /CIDFontType2" in first[0].read_bytes() or b"/FontFile2" in first[0].read_bytes()
    assert b"/Type3" not in first[0].read_bytes()
    with Image.open(first[1]) as image:
        assert image.width == 1400  # the text width of a two-column paper, 7 inches, at 200 dots an inch
        assert image.height >= 400
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == sorted(path.name for path in first)


@pytest.mark.parametrize("name", ALL)
def test_text_is_large_enough_inside_the_figure_and_apart(name, monkeypatch):
    figure = ALL[name]()
    figure.draw_without_rendering()
    drawn = []
    draw = Text.draw

    def record(text, renderer, *arguments, **options):
        if text.get_visible() and text.get_text().strip():
            drawn.append((text.get_text(), text.get_fontsize(), text.get_window_extent(renderer)))
        return draw(text, renderer, *arguments, **options)

    # Ticks outside an axis exist but are never drawn, so what is drawn is what counts.
    monkeypatch.setattr(Text, "draw", record)
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    assert len(drawn) > 20
    for text, size, box in drawn:
        assert size >= 9, text  # points, as a paper's captions have
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, text
    for (one, _, first), (other, _, second) in combinations(drawn, 2):
        shared = first.intersection(first, second)
        smaller = min(first.width * first.height, second.width * second.height)
        assert shared is None or shared.width * shared.height < 0.15 * smaller, (one, other)


def test_learnability_tells_each_cell():
    shown = strings(learnability(learned_heuristics()))
    assert {"LocalProbabilityTransform", "temperature_0.7", "eta_0.01"} <= {text.replace("\n", "") for text in shown}
    assert "0.2000 (80%)" in shown  # nothing is kept or cut by a temperature
    assert "0.2000 (80%)\nkept 0.80" in shown
    assert "0.0020 (0.8%)\nkept 1.00" in shown


def test_portraits_show_what_adds_to_a_temperature_and_else_the_family_alone():
    figure = nearest_heuristics(portraits(WEIGHTS[:1]))
    drawn = [text.get_text() for text in figure.axes[0].texts]
    assert drawn[::2] == [
        "epsilon(3.7e-05)+temperature(0.85)",
        "temperature(0.85)+top_h_renormalized(0.98)",
        "temperature(0.85)+top_k(1234)+top_p(0.999)",
        "temperature(0.8)",
        "typical(0.95)",
        "eta(0.0013)",
    ]
    assert drawn[1::2] == ["99.0 %", "98.0 %", "97.0 %", "90.0 %", "40.0 %", "30.0 %"]


def test_statistics_say_which_samplers_read_none():
    shown = strings(statistics(portraits(WEIGHTS[:1])))
    assert any("LocalProbabilityTransform\nSamplingNetwork" in text for text in shown)
    alone = [portrait for portrait in portraits(WEIGHTS[:1]) if portrait["architecture"] == "SamplingNetwork"]
    assert "Reads no statistics:\nSamplingNetwork" in strings(statistics(alone))


def test_unknown_format_is_named(tmp_path):
    with pytest.raises(UserError, match="unknown figure format 'jpeg'"):
        save(ranking(comparison_of(HEURISTICS)), tmp_path / "ranking", ["jpeg"])


def assert_apart(boxes, figure):
    """No two boxes are nearer than one and a half points, to the side or up."""
    gap = 1.5 * figure.dpi / 72
    for (one, first), (other, second) in combinations(boxes.items(), 2):
        aside = max(first.x0 - second.x1, second.x0 - first.x1)
        above = max(first.y0 - second.y1, second.y0 - first.y1)
        assert max(aside, above) >= gap, (one, other)


@pytest.mark.parametrize("samplers", [23, 90])
@pytest.mark.parametrize("spread", [0.0, 0.05, 1.0])
def test_labels_of_crowded_points_never_touch(samplers, spread):
    """Numbers that touch read as one: 11 and 7 as 117."""
    comparison = comparison_of([("temperature", f"temperature_{number}") for number in range(samplers)])
    generator = np.random.default_rng(samplers)
    # One point far away keeps the others together, however the axes are scaled.
    means = spread * generator.random(len(comparison))
    comparison["mean"] = np.where(comparison["name"] == "temperature_0", 2.0, means)
    figure = tradeoff(comparison)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    boxes = {text.get_text(): text.get_window_extent(renderer) for text in figure.axes[0].texts}
    assert set(boxes) == {str(number + 1) for number in range(samplers)}
    assert_apart(boxes, figure)


def test_tradeoff_labels_every_sampler_without_overlap():
    figure = tradeoff(comparison_of(HEURISTICS + LEARNED))
    shown = strings(figure)
    assert {name for _, name in HEURISTICS} <= shown
    assert {*ARCHITECTURES, *WEIGHTS, "Pareto front of the heuristics"} <= shown
    axes = figure.axes[0]
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    labels = {text.get_text(): text.get_window_extent(renderer) for text in axes.texts}
    assert set(labels) == {str(number + 1) for number in range(len(HEURISTICS))} | set("ABCDEF")
    assert_apart(labels, figure)
    stars = [line for line in axes.lines if line.get_marker() == "*"]
    assert len(stars) == len(LEARNED)
    assert {to_hex(line.get_color()).upper() for line in stars} == {LEARNED_COLOR}


def test_preferences_of_one_sampler_are_a_curve():
    names = [f"ConditionedSamplingNetwork a0_b1_c0 outcome preference {value}" for value in ("1", "0", "0.5")]
    comparison = comparison_of([*HEURISTICS, *(("learned", name) for name in names), *LEARNED])
    axes = tradeoff(comparison).axes[0]
    [curve] = [line for line in axes.lines if line.get_linewidth() == 1.2]
    means = comparison.pivot(index="name", columns="objective", values="mean").loc[[names[1], names[2], names[0]]]
    np.testing.assert_array_equal(curve.get_xydata(), means[["embedding_entropy", "quality"]])


@pytest.mark.parametrize("count", range(1, 12))
def test_no_heading_ends_a_column_of_the_key(count):
    figure = tradeoff(comparison_of(HEURISTICS[:count] + LEARNED))
    key = figure.axes[1]
    places = {text.get_text(): text.get_position() for text in key.texts}
    for architecture, letter in zip(ARCHITECTURES, "ACE", strict=True):
        (left, top), (right, bottom) = places[architecture], places[letter]
        assert 0 < bottom - top < 0.2 and abs(right - left) < 0.5
    assert max(y for _, y in places.values()) <= key.get_ylim()[0]


@pytest.mark.parametrize("diversity", ["embedding_entropy", "self_bleu"])
def test_tradeoff_points_to_more_diversity_and_better_quality(diversity):
    axes = tradeoff(comparison_of(HEURISTICS + LEARNED), diversity).axes[0]
    assert axes.xaxis_inverted() == (not OBJECTIVES[diversity].higher_is_better)
    assert axes.get_xlabel() == OBJECTIVES[diversity].axis


def test_pareto_front_against_brute_force():
    generator = np.random.default_rng(2)
    x, y = generator.integers(0, 12, (2, 60)).astype(float)
    front = pareto_front(x, y)
    points = {(x[index], y[index]) for index in front}
    undominated = {
        (a, b)
        for a, b in zip(x, y, strict=True)
        if not any(c >= a and d >= b and (c > a or d > b) for c, d in zip(x, y, strict=True))
    }
    assert points == undominated and len(points) == len(front)
    assert (np.diff(x[front]) > 0).all() and (np.diff(y[front]) < 0).all()


def test_ranking_order_and_highlights():
    comparison = comparison_of(HEURISTICS + LEARNED)
    axes = ranking(comparison).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    expected = comparison.query("objective == 'quality'").sort_values("mean")["name"].tolist()
    assert labels == expected
    highlighted = {label.get_text() for label in axes.get_yticklabels() if label.get_color() == LEARNED_COLOR}
    assert highlighted == {name for _, name in LEARNED}
    lowest_on_top = [label.get_text() for label in ranking(comparison, "self_bleu").axes[0].get_yticklabels()][-1]
    rows = comparison.query("objective == 'self_bleu'").set_index("name")["mean"]
    assert lowest_on_top == rows.idxmin()


@pytest.mark.parametrize("samplers", [HEURISTICS[:2], HEURISTICS[:1] + LEARNED[:1], LEARNED[:2], HEURISTICS[:1]])
def test_few_samplers(samplers, tmp_path):
    comparison = comparison_of(samplers)
    names = comparison.query("objective == 'quality'")["name"].tolist()
    # A single prompt has no interval.
    comparison.loc[comparison["name"] == names[0], ["low", "high"]] = np.nan
    figure = ranking(comparison)
    axes = figure.axes[0]
    ranked = [label.get_text() for label in axes.get_yticklabels()]
    lines = [line.get_xydata() for line in axes.lines]
    drawn = {ranked[int(line[0, 1])] for line in lines if len(line) == 2 and np.isfinite(line).all()}
    marked = {ranked[int(line[0, 1])] for line in lines if len(line) == 1 and np.isfinite(line).all()}
    assert sorted(ranked) == sorted(names) and marked == set(names) and drawn == set(names[1:])
    plane = tradeoff(comparison)
    learned = sum(family == "learned" for family, _ in samplers)
    expected = ["A", "B"][:learned] + ["1", "2"][: len(samplers) - learned]
    assert sorted(text.get_text() for text in plane.axes[0].texts) == sorted(expected)
    assert all(
        path.exists() for path in save(plane, tmp_path / "tradeoff", ["png"]) + save(figure, tmp_path / "r", ["png"])
    )


def test_missing_objectives_are_named():
    comparison = comparison_of(HEURISTICS + LEARNED, objectives=["quality"])
    save_nothing = pd.concat([comparison, comparison.assign(objective="correctness", mean=np.nan)])
    assert len(ranking(save_nothing).axes[0].get_yticklabels()) == len(HEURISTICS + LEARNED)
    for draw in (lambda: ranking(save_nothing, "correctness"), lambda: tradeoff(save_nothing)):
        with pytest.raises(UserError, match=r"evaluation\.objectives"):
            draw()


def test_distributions_show_tokens_and_all_series():
    figure = distributions([panel(), panel(ARCHITECTURES[:1])])
    shown = strings(figure)
    assert {"\u2423a", "\u2423$", "\\n", "\\u6d77", REST, "raw", "target", *ARCHITECTURES} <= shown
    axes = [axes for axes in figure.axes if axes.get_xlabel() == "Probability"]
    assert len(axes) == 2
    assert [bar.get_width() for bar in axes[0].patches] == pytest.approx([*panel()["raw"], 0.2])
    bold = [label.get_text() for label in axes[0].get_yticklabels() if label.get_fontweight() == "bold"]
    assert bold == ["\u2423a"]
    assert any("Five dollars buy \u2192 \u2423a\ntemperature_0.7+min_p_0.1" in text for text in shown)


def test_long_contexts_are_cut_at_their_start():
    long = panel() | {"context": "word " * 2000 + "the end", "heuristic": "top_k_50+" * 20}
    figure = distributions([long, panel()])
    title = next(text for text in strings(figure) if "the end" in text)
    assert title.startswith("\u2026") and title.splitlines()[0].endswith("the end \u2192 \u2423a")


def test_curves_have_a_column_per_weights_and_the_identity():
    figure = curves(*training_curves())
    titled = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in titled] == WEIGHTS
    assert len(figure.axes) == 4
    dashed = {line.get_ydata()[0] for axes in figure.axes for line in axes.lines if len(set(line.get_ydata())) == 1}
    assert dashed == {1.5, 0.75}
    assert set(ARCHITECTURES) <= strings(figure)
    assert len(curves(*training_curves([f"w{number}" for number in range(5)])).axes) == 10


def test_kept_shares_and_order():
    shuffled = heuristics_table().sample(frac=1, random_state=1)
    figure = kept(training_sets(), shuffled)
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert sorted(labels) == sorted(name for _, name in HEURISTICS)
    widths = dict(zip(labels, [bar.get_width() for bar in axes.patches], strict=True))
    assert widths["temperature_0.3"] == 75 and widths["temperature_0.5"] == 25
    assert sum(widths.values()) == 100
    assert [axes.get_title(loc="left") for axes in figure.axes] == [f"{name}\nn = 4" for name in WEIGHTS]


def test_heuristics_are_ordered_by_family_then_temperature():
    table = pd.DataFrame(
        [
            ("top_k", "top_k_10"),
            ("temperature", "temperature_1"),
            ("top_k", "temperature_0.7+top_k_10"),
            ("temperature", "temperature_1e-05"),
            ("temperature", "temperature_0.3"),
        ],
        columns=["family", "name"],
    )
    assert by_family_and_temperature(table)["name"].tolist() == [
        "temperature_0.7+top_k_10",
        "top_k_10",
        "temperature_1e-05",
        "temperature_0.3",
        "temperature_1",
    ]


def test_style_helpers():
    assert [balanced_columns(panels, 3) for panels in (1, 2, 3, 4, 5, 6, 7)] == [1, 2, 3, 2, 3, 3, 3]
    marks = family_marks([f"family_{number}" for number in range(20)] + ["top_k", "top_p"])
    assert len(set(marks.values())) == 22
    assert printable("  a b \t\u0007") == "\u2423\u2423a b \\t\\x07"
    assert printable("$x_1$") == "$x_1$"


def test_figures_and_evaluation_need_no_torch():
    figures = (REPOSITORY / "scripts" / "adaptive_samplers" / "figures").glob("[!_]*.py")
    modules = ["evaluation", "rendering", "label_summary", *(f"figures.{path.stem}" for path in figures)]
    code = (
        f"import sys; sys.path.insert(0, {json.dumps(str(REPOSITORY / 'scripts'))})\n"
        + "".join(f"import adaptive_samplers.{module}\n" for module in modules)
        + "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'matplotlib.pyplot')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


CAPTIONS = sorted((REPOSITORY / "report").glob("*.rst"))


@pytest.mark.parametrize("path", CAPTIONS, ids=lambda path: path.stem)
@pytest.mark.parametrize("preset", ["config.yaml", "presets/smoke.yaml"])
def test_captions_render_for_every_config(path, preset):
    config = yaml.safe_load((REPOSITORY / "config" / preset).read_text())
    config["run"]["title"] = "\u5b66\u4e60 a_b"  # wide characters need a longer underline
    config["seeds"] = [0]
    snakemake = SimpleNamespace(config=config, wildcards={"run": "demo"})
    text = Environment(undefined=StrictUndefined).from_string(path.read_text()).render(snakemake=snakemake)
    strict = {"halt_level": 2, "report_level": 2}
    html = publish_parts(text, writer="html", settings_overrides=strict)["html_body"]
    assert not re.search(r"\b1 seeds\b|\bNone\b|\bnan\b", html)
