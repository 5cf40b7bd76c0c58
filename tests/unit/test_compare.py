"""Families compared after equal numbers of tries: on worlds whose truth is known, and on files of others."""

import itertools
import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, ttest_1samp

from adaptive_samplers.compare import (
    Settings,
    chances_to_be_chosen,
    compare_families,
    detectable_difference,
    holm,
    paired_test,
    read_results,
    results_of_table,
)
from adaptive_samplers.compare.__main__ import main
from adaptive_samplers.compare.results import Objective, Results, validation_half
from adaptive_samplers.errors import UserError

QUICK = Settings(resamples=400)
PROMPTS = 80


def world(seed: int, counts=(6, 6, 6, 6), prompts=PROMPTS, seeds=4, merits=None, **more) -> Results:
    """Right and wrong answers of configurations, by prompts of all levels; `merits` are added to how often, by family.

    Without merits, all configurations of all families are equally good.
    """
    generator = np.random.default_rng(seed)
    families = np.repeat([f"f{number}" for number in range(len(counts))], counts)
    level = generator.uniform(0.2, 0.8, prompts)
    merit = np.zeros(len(families)) if merits is None else np.concatenate([np.ravel(one) for one in merits])
    chance = np.clip(level + merit[:, None], 0, 1)
    answers = generator.uniform(size=(seeds, *chance.shape)) < chance
    return results_of(families, answers, **more)


def results_of(families: np.ndarray, answers: np.ndarray, splits=True, selected=None) -> Results:
    """Of answers `[seeds, configurations, prompts]`."""
    prompts = np.array([str(number) for number in range(answers.shape[2])])
    halves = np.stack([answers[::2].mean(axis=0), answers[1::2].mean(axis=0)])
    configurations = np.array([f"c{number}" for number in range(len(families))])
    split = np.where(np.arange(len(prompts)) % 2 == 0, "validation", "test") if splits else None
    objective = Objective(
        "right", families, configurations, prompts, answers.mean(axis=0), halves, split, None, selected, []
    )
    return Results([objective])


@given(values=st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.7]), min_size=1, max_size=7), tries=st.integers(1, 7))
def test_chances_are_those_of_all_subsets(values, tries):
    tries, values = min(tries, len(values)), np.array(values)
    expected = np.zeros(len(values))
    subsets = list(itertools.combinations(range(len(values)), tries))
    for subset in subsets:
        best = [one for one in subset if values[one] == values[list(subset)].max()]
        expected[best] += 1 / len(best) / len(subsets)
    # Equal values share the chance of their places, which is the same if all of them are drawn equally often.
    for value in set(values):
        equal = values == value
        expected[equal] = expected[equal].mean()
    assert chances_to_be_chosen(values, tries) == pytest.approx(expected, abs=1e-12)


def test_a_mean_is_tested_as_by_students_t_where_that_is_right():
    for seed in range(5):
        values = np.random.default_rng(seed).normal(0.15, 1, 150)
        found, students = paired_test(values, 20_000, 0.95, 0), ttest_1samp(values, 0)
        interval = students.confidence_interval(0.95)
        assert found.p == pytest.approx(students.pvalue, abs=0.015)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.02)
        assert (found.low > 0 or found.high < 0) == (found.p < 0.05)


def test_tests_of_few_and_of_equal_differences():
    assert paired_test(np.zeros(9), 200, 0.95, 0).p == 1
    assert paired_test(np.full(9, 0.1), 200, 0.95, 0).p == 2**-8
    for values in ([], [0.3]):
        assert paired_test(np.array(values), 200, 0.95, 0).p == 1
    one_of_many = paired_test(np.array([1.0, *[0.0] * 40]), 2000, 0.95, 0)
    assert one_of_many.p > 0.3 and one_of_many.low < 0


def test_holms_adjustment():
    # As R's p.adjust(p, "holm").
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == pytest.approx([1, 1]) and len(holm([])) == 0


def found_something(results: Results, settings: Settings = QUICK) -> bool:
    return bool((compare_families(results, settings).pairs["verdict"] != "no difference found").any())


@pytest.mark.parametrize("splits", [True, False])
def test_null_worlds_are_seldom_called_anything_else(splits):
    worlds = 400
    false = sum(found_something(world(seed, splits=splits)) for seed in range(worlds))
    print(f"something was found in {false} of {worlds} worlds without differences")
    assert false / worlds <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / worlds)


def test_null_worlds_of_published_means_are_seldom_called_anything_else():
    false = 0
    for seed in range(400):
        generator = np.random.default_rng(seed)
        rows = [
            {"family": family, "configuration": number, "value": generator.normal(0.5, 0.03), "standard_error": 0.03}
            for family in "abcd"
            for number in range(6)
        ]
        false += found_something(results_of_table(pd.DataFrame(rows)), replace(QUICK, resamples=100))
    assert false / 400 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


def test_published_means_are_not_judged_by_the_luck_that_chose_them():
    generator, values, best = np.random.default_rng(0), [], []
    for _ in range(300):
        table = pd.DataFrame({"value": generator.normal(0, 1, 20), "standard_error": 1.0, "configuration": range(20)})
        table["family"] = np.where(table["configuration"] < 10, "a", "b")
        found = compare_families(results_of_table(table), replace(QUICK, resamples=100))
        values.append(found.families["value"].mean())
        best.append(table.groupby("family")["value"].max().mean())
    assert np.mean(best) > 1.4 and abs(np.mean(values)) < 0.15


def test_a_planted_winner_is_found_with_the_stated_power():
    """What is planted is the smallest difference that the design says it can find in 80 % of worlds."""
    settings, worlds = replace(QUICK, claims=["f0"]), 200
    spread = [compare_families(world(seed), settings).pairs["standard_error"].mean() for seed in range(20)]
    planted = detectable_difference(float(np.mean(spread)), settings.level, settings.power, comparisons=3)
    merits = [np.full(6, planted), *[np.zeros(6)] * 3]
    found = [compare_families(world(1000 + seed, merits=merits), settings) for seed in range(worlds)]
    # The stated power is that of one comparison, where all of them share the level.
    power = np.mean([(one.pairs["verdict"] == "f0 is better").mean() for one in found])
    print(
        f"planted {planted:.3f}, found in {power:.2f} of comparisons, all three in "
        f"{np.mean([one.claims['f0'] for one in found])}"
    )
    assert 0.72 <= power <= 0.95
    assert {"f1 is better", "f2 is better", "f3 is better"}.isdisjoint(
        verdict for one in found for verdict in one.pairs["verdict"]
    )


def test_a_winner_that_was_chosen_on_the_test_prompts_is_flagged_and_not_found():
    flagged = won = worlds = 0
    for seed in range(100):
        results = world(seed, counts=(30, 30), seeds=2)
        (objective,) = results.objectives
        test = objective.splits == "test"
        rows = objective.rows("f0")
        best = rows[objective.values[rows][:, test].mean(axis=1).argmax()]
        by_validation = objective.values[rows][:, ~test].mean(axis=1)
        if by_validation[best - rows[0]] == by_validation.max():
            continue
        worlds += 1
        selected = np.zeros(len(objective.families), bool)
        selected[best] = True
        found = compare_families(Results([replace(objective, selected=selected)]), replace(QUICK, claims=["f0"]))
        flagged += any(f"f0 reports c{best}, the best of 30 on the judged prompts" in flag for flag in found.flags)
        won += found.claims["f0"]
    assert worlds > 80 and flagged == worlds
    assert won / worlds < 0.05 + 2 * np.sqrt(0.05 * 0.95 / worlds)


def test_a_winner_by_ten_times_the_tries_is_flagged_and_not_found():
    """All families are the same lottery of configurations; one has bought ten times the tickets."""
    tickets = 0.12 * norm.ppf([0.1, 0.3, 0.5, 0.7, 0.9])
    worlds, ahead, called = 60, 0, 0
    for seed in range(worlds):
        merits = [np.random.default_rng(seed).normal(0, 0.12, 50), tickets, tickets]
        found = compare_families(world(seed, (50, 5, 5), prompts=300, merits=merits), replace(QUICK, claims=["f0"]))
        assert any("f0 has 50 configurations and f1 has 5; all are compared after 5" in flag for flag in found.flags)
        ahead += any("f0 is ahead of" in flag and "not after 5 each" in flag for flag in found.flags)
        called += found.claims["f0"]
    assert ahead > worlds / 2 and called / worlds <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / worlds)


def test_curves_rise_with_tries_and_agree_with_drawing_them():
    generator = np.random.default_rng(0)
    results = world(3, (40, 6), prompts=400, merits=[generator.normal(0, 0.15, 40), np.zeros(6)])
    found = compare_families(results, QUICK)
    curve = found.curves[found.curves["family"] == "f0"].set_index("tries")
    assert list(curve.index) == [1, 3, 6, 10, 31, 40] and curve["value"].iloc[-1] > curve["value"].iloc[0] + 0.1
    (objective,) = results.objectives
    values, test = objective.values[:40], objective.splits == "test"
    drawn = []
    for _ in range(4000):
        some = generator.choice(40, 6, replace=False)
        drawn.append(values[some[values[some][:, ~test].mean(axis=1).argmax()]][test].mean())
    assert curve.loc[6, "value"] == pytest.approx(np.mean(drawn), abs=0.004)
    assert curve.loc[6, "low"] < np.quantile(drawn, 0.05) and curve.loc[6, "high"] > np.quantile(drawn, 0.95)


def test_the_noise_of_a_sampler_against_itself():
    """Two samplers that are the same, under seeds of their own, differ about as much as is said."""
    differences, said = [], []
    for seed in range(200):
        results = world(seed, counts=(1, 1))
        found = compare_families(results, replace(QUICK, resamples=100))
        differences.append(found.pairs["difference"][0])
        said.append(found.families["noise"].mean())
    assert np.mean(said) == pytest.approx(np.std(differences), rel=0.2)


def test_a_claim_over_several_objectives_needs_all():
    better = [np.full(6, 0.3), np.zeros(6)]
    one = world(1, (6, 6), merits=better).objectives[0]
    other = replace(world(2, (6, 6)).objectives[0], name="other")
    for objectives, holds in (([one], True), ([one, replace(one, name="again")], True), ([one, other], False)):
        found = compare_families(Results(objectives), replace(QUICK, claims=["f0"]))
        assert found.claims == {"f0": holds}
    assert compare_families(Results([one])).claims == {}


def rows_of(values: dict, seeds=2, prompts=12, **more) -> pd.DataFrame:
    generator = np.random.default_rng(1)
    return pd.DataFrame(
        [
            {"family": family, "configuration": configuration, "prompt": f"p{prompt}", "seed": seed, **more}
            | {"value": value + generator.normal(0, 0.1)}
            for (family, configuration), value in values.items()
            for prompt in range(prompts)
            for seed in range(seeds)
        ]
    )


VALUES = {("top_p", "0.9"): 0.2, ("top_p", "0.8"): 0.5, ("temperature", "1"): 0.1, ("temperature", "0.5"): 0.3}
TABLE = rows_of(VALUES)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_files_of_all_kinds_say_the_same(ending, tmp_path):
    path = tmp_path / f"results.{ending}"
    if ending == "parquet":
        TABLE.to_parquet(path)
    elif ending == "jsonl":
        TABLE.to_json(path, orient="records", lines=True)
    else:
        TABLE.to_csv(path, sep="\t" if ending == "tsv" else ",", index=False)
    shuffled = TABLE.sample(frac=1, random_state=0)
    (found,), (expected,) = read_results(path).objectives, results_of_table(shuffled).objectives
    assert found.values == pytest.approx(expected.values, abs=1e-9)
    assert found.halves == pytest.approx(expected.halves, abs=1e-9)
    assert found.prompts.tolist() == expected.prompts.tolist() and found.splits is None


def test_lower_may_be_better_and_the_same_values_are_no_further_try():
    same = TABLE[TABLE["configuration"] == "0.9"].assign(configuration="0.90")
    (found,) = results_of_table(pd.concat([TABLE, same]), lower_is_better=["value"]).objectives
    assert found.duplicates == [("top_p", "0.90", "0.9")] and len(found.rows("top_p")) == 2
    best = found.configurations[found.values.mean(axis=1).argmax()]
    assert best == "1"
    assert any("top_p 0.90 has the values of 0.9" in flag for flag in compare_families(Results([found])).flags)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop(columns="family"), "has no column 'family'; name its columns family, configuration"),
        (lambda table: table.iloc[:0], "has no rows"),
        (lambda table: table.assign(value="high"), "row 1 has the value 'high'; write a finite number"),
        (lambda table: table.assign(configuration=None), "row 1 has no configuration; fill it in"),
        (lambda table: table[table["family"] == "top_p"], "has the family 'top_p' alone"),
        (lambda table: table.iloc[2:], "top_p 0.9 has no value for prompt p0, which others have"),
        (lambda table: pd.concat([table, table.iloc[:1]]), "top_p 0.9 has two values for prompt p0 under seed 0"),
        (lambda table: table.assign(split="test"), "all prompts are of the split test; both are needed"),
        (lambda table: table.assign(split=["dev", "test"] * 48), "prompt p0 has the split dev, test; give it one"),
        (lambda table: table.assign(selected=True), "the family 'temperature' has several selected configurations"),
        (lambda table: table.assign(prompt=None), "has neither prompts nor standard errors"),
        (lambda table: table.assign(prompt=None, standard_error=0), "a standard_error is not above 0"),
        (
            lambda table: (
                pd.concat([table.assign(objective=name) for name in "ab"])
                .reset_index(drop=True)
                .assign(family=lambda rows: rows["family"].mask(rows.index >= 168, "min_p"))
            ),
            "the family 'min_p' has not all objectives; give it all, or leave it out",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_said(change, words):
    with pytest.raises(UserError, match=words):
        results_of_table(change(TABLE))


def test_settings_that_do_not_fit_are_refused():
    results = results_of_table(TABLE)
    with pytest.raises(UserError, match="--objective: there is no 'right'; there are value"):
        results.only(["right"])
    assert results.only(["value"]).families == ["temperature", "top_p"]
    with pytest.raises(UserError, match="--claim: there is no family 'min_p'; there are temperature, top_p"):
        compare_families(results, Settings(claims=["min_p"]))
    with pytest.raises(UserError, match="--tries: 3 are more than the 2 configurations"):
        compare_families(results, Settings(tries=3))


def sample_log(folder, name: str, options: dict, right: list[int], **more) -> None:
    """As lm-evaluation-harness writes it."""
    lines = [
        {
            "doc_id": number,
            "doc": {"question": f"q{number}"},
            "target": "1",
            "arguments": {"gen_args_0": {"arg_0": "q", "arg_1": {"until": ["\n"], **options}}},
            "resps": [["1\u2028"]],  # which ends no line of JSON
            "filtered_resps": ["1"],
            "filter": "none",
            "metrics": ["exact_match"],
            "doc_hash": f"hash{number}",
            "exact_match": value,
            **more,
        }
        for number, value in enumerate(right)
    ]
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def test_sample_logs_of_lm_evaluation_harness(tmp_path):
    at, model = "samples_gsm8k_2026-01-0{}T00-00-00.000000.jsonl", tmp_path / "model"
    warm, kept = {"do_sample": True, "temperature": 0.7}, {"do_sample": True, "temperature": 0.7, "min_p": 0.1}
    sample_log(model, at.format(1), warm, [1, 0, 1, 0])
    sample_log(model, at.format(2), warm, [1, 1, 1, 0])
    sample_log(model, at.format(3), kept, [0, 0, 1, 0])
    sample_log(model, at.format(4), kept, [0, 0, 1, 1])
    sample_log(model, at.format(5), {"do_sample": False}, [1, 1, 1, 1])
    (objective,) = read_results(tmp_path).objectives
    assert objective.name == "gsm8k" and objective.prompts.tolist() == [f"hash{number}" for number in range(4)]
    values = dict(zip(zip(objective.families, objective.configurations, strict=True), objective.values, strict=True))
    assert {key: value.tolist() for key, value in values.items()} == {
        ("temperature", "model temperature: 0.7"): [1, 0.5, 1, 0],
        ("min_p", "model min_p: 0.1, temperature: 0.7"): [0, 0, 1, 0.5],
        ("greedy", "model greedy"): [1, 1, 1, 1],
    }
    sample_log(model, at.format(6), warm, [1, 0, 1, 0], metrics=["exact_match", "f1"], f1=0.5)
    with pytest.raises(UserError, match=r"line 1: has several metrics; choose one of exact_match, f1 by --metric"):
        read_results(tmp_path)
    assert read_results(tmp_path, metric="exact_match").objectives[0].values.shape == (3, 4)
    (model / at.format(7)).write_text("{}\n")
    with pytest.raises(UserError, match="line 1: is no sample of lm-evaluation-harness"):
        read_results(tmp_path, metric="exact_match")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="has no files samples_"):
        read_results(empty)


def test_the_command_prints_and_writes_what_was_found(tmp_path, capsys):
    path = tmp_path / "results.csv"
    rows_of(VALUES, prompts=40).to_csv(path, index=False)
    output = tmp_path / "out"
    main([str(path), "--claim", "top_p", "--output", str(output), "--resamples", "500"])
    said = capsys.readouterr().out
    assert "value, after 2 tries each" in said and "top_p - temperature: +0." in said
    assert "The claim that top_p is better than every other family holds." in said
    assert "Note: value: 20 prompts are judged: few for any conclusion." in said
    assert {file.name for file in output.iterdir()} == {
        *("families.csv", "pairs.csv", "curves.csv", "curves.png", "curves.pdf"),
    }
    assert len(pd.read_csv(output / "curves.csv")) == 4
    for arguments, words in (
        ([str(tmp_path / "gone.csv")], "there is no such file"),
        ([str(path.rename(tmp_path / "results.txt"))], "is neither a folder nor a file that ends in .csv"),
        (["x.csv", "--level", "2"], "--level: is 2; allowed"),
        (["x.csv", "--tries", "0"], "--tries: is 0; allowed"),
    ):
        with pytest.raises(UserError, match=words):
            main(arguments)


def test_halves_of_prompts_do_not_depend_on_their_order():
    names = [f"p{number}" for number in range(101)]
    half = dict(zip(names, validation_half(names), strict=True))
    again = dict(zip(names[::-1], validation_half(names[::-1]), strict=True))
    assert half == again and sum(half.values()) == 50


def test_comparing_imports_no_torch():
    # A comparison of other people's tables takes a second.
    import subprocess

    code = "import sys, adaptive_samplers.compare.__main__; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": "scripts"})
