"""What repeated sampling is worth, from the tables of an evaluation to tables, pages and figures."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from adaptive_samplers.errors import UserError
from adaptive_samplers.evaluation import intervals
from adaptive_samplers.figures.repeated_sampling import coverage, selecting
from adaptive_samplers.labels.verifiers import Verification
from adaptive_samplers.labels.verifiers.processes import Task, VerifierPool
from adaptive_samplers.repeated_sampling import adaptive_consistency, best_of_n, majority_vote, pass_at_k
from adaptive_samplers.repeated_sampling.final_answers import extract_final_answers
from adaptive_samplers.repeated_sampling.measure import Samples, fit_power_laws, measure_repeated_sampling, sizes
from adaptive_samplers.repeated_sampling.per_sampler import best_coverage_first, missing, write_latex, write_page
from adaptive_samplers.tables import KEY, SCHEMAS, read_table, to_arrow, write_table
from support import REPOSITORY

SEEDS = [5, 3, 8, 1, 4, 7]  # in the order in which samples count as drawn
LEARNED = "SamplingNetwork a0.7_b0.3_c0 top2"
HEURISTICS = pd.DataFrame(
    [
        ("h0", "temperature_1", "temperature"),
        ("h1", "temperature_0.3", "temperature"),
        ("h2", "top_p_0.9", "top_p"),
        ("h3", LEARNED, "learned"),
    ],
    columns=["heuristic_id", "name", "family"],
).assign(processors="[]")
SETTINGS = {"confidence": 0.8, "criterion": "beta", "resamples": 200, "interval_confidence": 0.9, "seed": 7}


def label_tables(prompts=12, seed=0):
    """Labels of prompts of which every third has nothing to verify, every third no final answer."""
    generator = np.random.default_rng(seed)
    correctness, quality, answers = [], [], []
    for number in range(prompts):
        for heuristic in HEURISTICS["heuristic_id"]:
            for sample in sorted(SEEDS):
                key = (f"p{number:02d}", heuristic, sample)
                given = generator.choice(["7", "8", "9", None], p=[0.4, 0.3, 0.2, 0.1])
                verifier = [None, "regex", "numeric"][number % 3]
                score = None if verifier is None else float(given == "7")
                correctness.append((*key, verifier, score, None, None))
                quality.append((*key, 0.0, 1.0, 3, generator.normal() + (given == "7")))
                if verifier == "numeric":
                    answers.append((*key, given, None))
    return {
        name: pd.DataFrame(rows, columns=SCHEMAS[name].names)
        for name, rows in (("correctness", correctness), ("quality", quality), ("final_answers", answers))
    }


def samples_of(tables, seeds=SEEDS):
    return Samples.from_tables(tables["correctness"], tables["quality"], tables["final_answers"], HEURISTICS, seeds)


def measured_of(tables, k=(1, 2, 4), **changes):
    return measure_repeated_sampling(samples_of(tables), HEURISTICS, k, **SETTINGS | changes)


def of_answers(tables, heuristic, prompt):
    """Scores, rewards and final answers of one prompt and heuristic, in the order of the seeds."""
    joined = tables["correctness"].merge(tables["quality"], on=KEY).merge(tables["final_answers"], "left", on=KEY)
    own = joined[(joined["heuristic_id"] == heuristic) & (joined["prompt_id"] == prompt)].set_index("seed").loc[SEEDS]
    answers = [None if pd.isna(answer) else answer for answer in own["final_answer"]]
    return own["score"].to_numpy(float), own["reward"].to_numpy(float), answers


def row(measured, name, method, n, objective="correctness", prompts="verifiable"):
    found = measured.query("name == @name and method == @method and n == @n")
    found = found.query("objective == @objective and prompts == @prompts")
    assert len(found) == 1
    return found.iloc[0]


def test_every_value_is_the_mean_of_the_estimators_over_prompts():
    tables = label_tables()
    measured = measured_of(tables)
    to_arrow("repeated_sampling", measured)
    verifiable = [f"p{i:02d}" for i in range(12) if i % 3]
    votable = [f"p{i:02d}" for i in range(12) if i % 3 == 2]
    for heuristic, name in zip(HEURISTICS["heuristic_id"], HEURISTICS["name"], strict=True):
        by_prompt = {prompt: of_answers(tables, heuristic, prompt) for prompt in verifiable}
        for n in (1, 2, 4, 6):
            values = [pass_at_k(6, int(right.sum()), n) for right, _, _ in by_prompt.values()]
            assert row(measured, name, "pass_at_k", n)["mean"] == pytest.approx(np.mean(values))
            values = [best_of_n(rewards, right, n) for right, rewards, _ in by_prompt.values()]
            assert row(measured, name, "best_of_n", n)["mean"] == pytest.approx(np.mean(values))
            values = [majority_vote(by_prompt[p][2], by_prompt[p][0], n) for p in votable]
            found = row(measured, name, "majority_vote", n, prompts="final_answer")
            assert found["mean"] == pytest.approx(np.mean(values))
            expected = intervals(np.array(values)[:, None], 200, 0.9, 7)[0]
            assert (found["low"], found["high"], found["n_prompts"]) == pytest.approx(expected[1:])
            weighted = [
                majority_vote(answers, right, n, np.exp(rewards))
                for right, rewards, answers in map(by_prompt.get, votable)
            ]
            found = row(measured, name, "weighted_majority_vote", n, prompts="final_answer")
            assert found["mean"] == pytest.approx(np.mean(weighted))
        stops = [adaptive_consistency(by_prompt[p][2], 0.8) for p in votable]
        found = row(measured, name, "adaptive_consistency", 6, prompts="final_answer")
        assert found["samples"] == pytest.approx(np.mean([stop.samples for stop in stops])) and found["samples"] < 6


def test_no_way_of_choosing_beats_coverage_and_all_begin_at_one_sample():
    measured = measured_of(label_tables(30))
    accuracy = measured[(measured["objective"] == "correctness") & (measured["prompts"] == "final_answer")]
    wide = accuracy.pivot(index=["name", "n"], columns="method", values="mean")
    for method in ("best_of_n", "majority_vote", "weighted_majority_vote", "adaptive_consistency"):
        assert (wide[method].fillna(0) <= wide["pass_at_k"] + 1e-9).all()
    one = wide.xs(1, level="n")
    assert one["best_of_n"].to_numpy() == pytest.approx(one["pass_at_k"].to_numpy())
    rewards = measured[measured["objective"] == "reward"]
    assert set(rewards["prompts"]) == {"all"} and set(rewards["n_prompts"]) == {30}


def test_only_a_full_score_is_right():
    tables = label_tables()
    tables["correctness"]["score"] = tables["correctness"]["score"] * 0.99
    assert measured_of(tables).query("method == 'pass_at_k'")["mean"].eq(0).all()


def test_a_prompt_with_a_missing_verdict_counts_for_no_number_of_samples():
    tables = label_tables()
    lost = (tables["correctness"]["prompt_id"] == "p02") & (tables["correctness"]["heuristic_id"] == "h1")
    tables["correctness"].loc[lost & (tables["correctness"]["seed"] == 8), "score"] = None
    assert samples_of(tables).left_out() == 1
    measured = measured_of(tables)
    for method in ("pass_at_k", "best_of_n"):
        assert [row(measured, "temperature_0.3", method, n)["n_prompts"] for n in (1, 2, 4, 6)] == [7] * 4
        assert row(measured, "temperature_1", method, 2)["n_prompts"] == 8
    assert row(measured, "temperature_0.3", "majority_vote", 1, prompts="final_answer")["n_prompts"] == 3
    # The same where it is not known what a text gives, which is not the same as a text that gives nothing.
    tables = label_tables()
    tables["final_answers"].loc[3, ["final_answer", "error"]] = [None, "killed"]
    measured = measured_of(tables)
    name = HEURISTICS.set_index("heuristic_id")["name"][tables["final_answers"].loc[3, "heuristic_id"]]
    assert row(measured, name, "majority_vote", 2, prompts="final_answer")["n_prompts"] == 3
    assert row(measured, name, "pass_at_k", 2, prompts="final_answer")["n_prompts"] == 4


def test_samples_are_drawn_in_the_order_of_the_seeds():
    tables = label_tables()
    answers = tables["final_answers"]
    # The first four in the order of the seeds agree; sorted by number they would not come first.
    answers["final_answer"] = np.where(answers["seed"].isin(SEEDS[:4]), "7", "8")
    measured = measured_of(tables, confidence=0.95)
    assert measured.query("method == 'adaptive_consistency'")["samples"].eq(4).all()


def test_numbers_of_samples_end_with_all_seeds():
    assert sizes([1, 2, 4, 8], 3) == [1, 2, 3]
    assert sizes([4, 1], 4) == [1, 4]
    assert sizes([8], 1) == [1]


def test_labels_of_another_run_are_refused():
    with pytest.raises(UserError, match="table 'correctness': seed 8 is not of this evaluation"):
        samples_of(label_tables(), [5, 3, 1, 4, 7])


def test_a_judge_without_rewards_chooses_by_ratings():
    tables = label_tables()
    with_rewards = measured_of(tables)
    assert with_rewards.query("method == 'best_of_n'")["judged_by"].eq("reward").all()
    assert with_rewards.query("method == 'majority_vote'")["judged_by"].isna().all()
    tables["quality"] = tables["quality"].assign(rating=tables["quality"]["reward"], reward=np.nan)
    measured = measured_of(tables)
    accuracy = measured["objective"] == "correctness"
    np.testing.assert_allclose(measured.loc[accuracy, "mean"], with_rewards.loc[accuracy, "mean"])
    assert measured.query("method == 'weighted_majority_vote'")["judged_by"].eq("rating").all()
    assert measured.loc[~accuracy, "mean"].isna().all()
    assert any("no rewards" in sentence for sentence in missing(measured))
    assert not any("no rewards" in sentence for sentence in missing(with_rewards))
    assert len(coverage(measured, fit_power_laws(samples_of(tables), HEURISTICS, [1, 2])).axes) == 1


def test_prompts_without_verifiers_and_a_judge_without_rewards():
    tables = label_tables()
    tables["quality"]["reward"] = np.nan
    tables["correctness"][["verifier", "score"]] = None
    tables["final_answers"] = tables["final_answers"][:0]
    measured = measured_of(tables)
    assert measured["mean"].isna().all() and (measured["n_prompts"] == 0).all()
    assert any("No test prompt has a verifier" in sentence for sentence in missing(measured))
    assert fit_power_laws(samples_of(tables), HEURISTICS, [1, 2, 4])["note"].eq("0 prompts, fewer than 10").all()
    for figure in (coverage(measured, pd.DataFrame()), selecting(measured)):
        assert "Nothing to show" in figure.texts[0].get_text()


def test_power_laws_are_fitted_or_say_why_not():
    few = fit_power_laws(samples_of(label_tables()), HEURISTICS, [1, 2, 3, 4])
    assert few["a"].isna().all() and few["note"].eq("8 prompts, fewer than 10").all()
    many = samples_of(label_tables(60))
    assert fit_power_laws(many, HEURISTICS, [1, 2])["note"].eq("3 values of k, fewer than 4").all()
    laws = fit_power_laws(many, HEURISTICS, [1, 2, 4])
    to_arrow("power_laws", laws)
    assert laws["note"].isna().all() and (laws[["a", "b"]] < 0).all(axis=None) and (laws["a_stderr"] > 0).all()
    assert (laws["r_squared"] > 0.95).all() and laws["points"].eq(4).all() and laws["n_prompts"].eq(40).all()


def test_tables_for_a_paper_and_the_report(tmp_path):
    tables = label_tables(60)
    measured = measured_of(tables)
    laws = fit_power_laws(samples_of(tables), HEURISTICS, [1, 2, 4])
    order = best_coverage_first(measured)
    best = measured.query("method == 'pass_at_k' and prompts == 'verifiable' and n == 6").set_index("name")["mean"]
    assert best[order].is_monotonic_decreasing and len(order) == 4
    write_latex(measured, laws, tmp_path / "t.tex")
    latex = (tmp_path / "t.tex").read_text()
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 2 + 4 and len({line.count("&") for line in rows[1:]}) == 1
    assert "with a verifier ($n = 40$)" in latex and "samples" in latex and r"temperature\_0.3" in latex
    columns = rows[1].count("&") + 1
    spanned = sum(int(part.split("}")[0]) for part in rows[0].split(r"\multicolumn{")[1:])
    assert spanned + 1 == columns == latex.splitlines()[0].split("{")[-1].count("r") + 1
    write_page(measured, laws, tmp_path / "t.html")
    page = (tmp_path / "t.html").read_text()
    assert page.count("<tr class='learned'>") == 4 and "nan" not in page and "R\u00b2" in page
    without = fit_power_laws(samples_of(label_tables()), HEURISTICS, [1, 2, 4])
    write_latex(measured_of(label_tables()), without, tmp_path / "u.tex")
    assert "$a$" not in (tmp_path / "u.tex").read_text()
    write_page(measured_of(label_tables()), without, tmp_path / "u.html")
    assert "Not fitted (4 samplers): 8 prompts, fewer than 10." in (tmp_path / "u.html").read_text()


def test_figures_show_what_the_tables_hold():
    tables = label_tables(60)
    measured, laws = measured_of(tables), fit_power_laws(samples_of(tables), HEURISTICS, [1, 2, 4])
    left, right = coverage(measured, laws).axes
    assert left.get_title(loc="left") == "Prompts with a verifier (n = 40)"
    assert right.get_title(loc="left") == "All prompts (n = 60)"
    drawn = {tuple(np.round(line.get_ydata(), 6)) for line in left.lines}
    for name in HEURISTICS["name"]:
        assert tuple(row(measured, name, "pass_at_k", n)["mean"].round(6) for n in (1, 2, 4, 6)) in drawn
    grid = selecting(measured).axes
    assert grid[0].get_title(loc="left").splitlines()[1] == "temperature_1"
    assert len(grid) == 6 and all(len(axes.lines) == 4 for axes in grid[:3])
    assert all(len(axes.lines) == 10 for axes in grid[3:])


CANDIDATES = [
    ("a", "So 3 + 4 = 7. The answer is 7.0", "stop", None),
    ("a", "$7", "stop", None),
    ("a", "none", "stop", None),
    ("a", "   ", "stop", None),
    ("a", "", "error", "lost"),
    ("b", "The answer is \\boxed{\\frac{1}{2}}", "stop", None),
    ("b", "I get $0.5$", "stop", None),
    ("b", "thus $(x+1)^2$", "stop", None),
    ("b", "thus $x^2 + 2x + 1$", "stop", None),
    ("b", "thus $x^2 + 2x + 2$", "stop", None),
    ("c", " The  Nile.", "stop", None),
    ("c", "the nile", "stop", None),
    ("d", "no final answer is known of a pattern", "stop", None),
]
PROMPTS = pd.DataFrame(
    [("a", "numeric", "7"), ("b", "math", '"1/2"'), ("c", "exact", '"nile"'), ("d", "regex", '"x"'), ("e", None, None)],
    columns=["prompt_id", "verifier", "ground_truth"],
)


def candidates_file(folder):
    rows = [
        {
            **{"prompt_id": prompt, "heuristic_id": "h", "seed": seed, "text": text, "finish_reason": reason},
            **{"error": error, "prompt_token_ids": [1], "token_ids": [2], "sample_seed": 3, "engine": "e"},
            **{"token_logprobs": None, "end_logprobs": None},
        }
        for seed, (prompt, text, reason, error) in enumerate(CANDIDATES)
    ]
    write_table("candidates", rows, folder / "candidates.parquet")
    return folder / "candidates.parquet"


def test_equivalent_final_answers_are_the_same_text(tmp_path):
    output = tmp_path / "final_answers.parquet"
    # An answer that was not generated, as one without a verbalized answer, is none that could not be read.
    counts = extract_final_answers(candidates_file(tmp_path), PROMPTS, output, 0.0, Verification())
    assert counts == {"gave": 9, "none": 2, "failed": 0, "missing": 1}
    table = read_table("final_answers", output).set_index("seed")
    found = [None if pd.isna(answer) else answer for answer in table["final_answer"]]
    assert found[:7] == ["7", "7", None, None, None, "0.5", "0.5"]
    assert found[7] == found[8] != found[9]
    assert found[10:] == ["the nile"] * 2
    assert table["error"].notna().sum() == 1 and table["error"][4] == "generation failed: lost"


def test_final_answers_that_are_not_known_are_reported(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(
        "def verify(text, truth): return 1.0\n"
        "def final_answer(text, truth): return 1 / (text != 'none') and text.upper()\n"
    )
    prompts = pd.DataFrame([("a", "mine", "7")], columns=PROMPTS.columns)
    verification, output = Verification(own=(("mine", str(own)),)), tmp_path / "f.parquet"
    with pytest.raises(UserError, match=r"1 of 4 are not known.*\n.*ZeroDivisionError"):
        extract_final_answers(candidates_file(tmp_path), prompts, output, 0.2, verification)
    assert not output.exists()
    counts = extract_final_answers(candidates_file(tmp_path), prompts, output, 0.25, verification)
    assert counts == {"gave": 2, "none": 1, "failed": 1, "missing": 1}


def test_final_answers_of_other_verifiers(tmp_path):
    own = tmp_path / "own.py"
    own.write_text("def verify(text, truth): return 1.0\ndef final_answer(text, truth): return text[:truth]\n")
    entry = json.dumps({"dataset": "chain_sum", "entry": {"question": "?", "answer": "12", "metadata": {}}})
    tasks = [
        Task("mine", "3", "abcdef", "final_answer"),
        Task("reasoning_gym", entry, "It is <answer>12.0</answer>", "final_answer"),
        Task("reasoning_gym", entry, "I think, 5 + 7 = 12", "final_answer"),
        Task("reasoning_gym", entry.replace('"12"', '"north"'), "The answer is North.", "final_answer"),
        Task("numeric", "1", "1,234,567,890,123,456,789,012,345,678,901.50", "final_answer"),
        Task("numeric", "1", "-0.0", "final_answer"),
        Task("exact", '"x"', "long " * 1000, "final_answer"),
        Task("regex", '"x"', "x", "final_answer"),
    ]
    with VerifierPool(Verification(own=(("mine", str(own)),)), 1) as pool:
        outcomes = list(pool.outcomes(tasks))
    assert [outcome.detail for outcome in outcomes[:6]] == [
        "abc", "12", "12", "north", "1234567890123456789012345678901.5", "0"
    ]  # fmt: skip
    assert outcomes[6].detail.startswith("hash ")
    assert outcomes[7].error == "ValueError: the verifier regex knows no final answers"


def test_measuring_and_plotting_need_no_torch():
    modules = ["figures.repeated_sampling", "repeated_sampling.measure", "repeated_sampling.per_sampler"]
    code = (
        f"import sys; sys.path.insert(0, {json.dumps(str(REPOSITORY / 'scripts'))})\n"
        + "".join(f"import adaptive_samplers.{module}\n" for module in modules)
        + "sys.exit(any(name in sys.modules for name in ('torch', 'math_verify', 'matplotlib.pyplot')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
