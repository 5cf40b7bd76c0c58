"""Verifiers tell good answers from bad ones, and failures stay failures."""

import json
import subprocess
import sys

import pandas as pd
import pytest

from adaptive_samplers.errors import UserError
from adaptive_samplers.labels import correctness
from adaptive_samplers.labels.correctness import VERIFIERS, label_correctness, verifier
from support import REPOSITORY


def instruction(name: str, **arguments) -> list[dict]:
    return [{"instruction_id": name, "kwargs": arguments}]


FEWER_THAN_FIVE = instruction("length_constraints:number_words", num_words=5, relation="less than")

GOOD = [
    ("numeric", "There are 3 boxes of 4, so 12 in all.", 12),
    ("numeric", "The answer is 12. There are 3 boxes.", 12),
    ("numeric", "3 * 4 = 12\n#### 12", 12),
    ("numeric", "The answer is 3 + 4 = 7. Good luck with 9!", 7),
    ("numeric", "First the answer is 5, no: the answer is 7", 7),
    ("numeric", "It costs $1,234.50.", 1234.5),
    ("numeric", "about 1,000,000 people", "1,000,000"),
    ("numeric", "It is -3", -3),
    ("numeric", "It is −3", -3),  # the typographic minus
    ("numeric", "10-7 = 3", 3),
    ("numeric", "x=.5", 0.5),
    ("numeric", "7.0", 7),
    ("numeric", "answer: 8", 8),
    ("regex", "It is PARIS.", r"\bparis\b"),
    ("regex", " Yes. \n", {"pattern": r"yes\W*", "fullmatch": True}),
    ("exact", "  The  Nile. ", "the nile"),
    ("exact", "“Tokyo”", ["Kyoto", "Tokyo"]),
    ("math", "So we get $\\frac{1}{2}$.", "0.5"),
    ("math", "The result is 12.", 12),
    ("math", "$x^2 + 2x + 1$", "$(x+1)^2$"),
    ("instructions", "Only four words here", FEWER_THAN_FIVE),
    ("instructions", "<<Rain>>\nIt rains.", instruction("detectable_format:title")),
    ("instructions", "A small lizard ran.", instruction("keywords:existence", keywords=["lizard"])),
    ("instructions", "No pause at all.", instruction("punctuation:no_comma")),
    (
        "instructions",
        "a quiet morning in the garden with birds.",
        instruction("change_case:english_lowercase"),
    ),
]
BAD = [
    ("numeric", "There are 12 pencils in 3 boxes, so 15.", 12),
    ("numeric", "I do not know.", 12),
    ("numeric", "The answer is 120.", 12),
    ("numeric", "It is 3", -3),
    ("numeric", "1,234", 1),
    ("regex", "comparison", r"\bparis\b"),
    ("regex", "Yes, of course.", {"pattern": "yes", "fullmatch": True}),
    ("exact", "The Nile river", "the nile"),
    ("math", "So we get $\\frac{1}{3}$.", "0.5"),
    ("math", "I do not know.", "0.5"),
    ("instructions", "These are as many as six", FEWER_THAN_FIVE),
    ("instructions", "Rain\nIt rains.", instruction("detectable_format:title")),
    ("instructions", "A pause, then.", instruction("punctuation:no_comma")),
]


@pytest.mark.parametrize(("name", "answer", "ground_truth"), GOOD)
def test_a_good_answer_scores_one(name, answer, ground_truth):
    score, detail = VERIFIERS[name](answer, ground_truth)
    assert score == 1.0, detail
    assert detail


@pytest.mark.parametrize(("name", "answer", "ground_truth"), BAD)
def test_a_bad_answer_scores_zero(name, answer, ground_truth):
    score, detail = VERIFIERS[name](answer, ground_truth)
    assert score == 0.0, detail
    assert detail


def test_every_verifier_has_good_and_bad_examples():
    assert {name for name, _, _ in GOOD} == {name for name, _, _ in BAD} == set(VERIFIERS)


@pytest.mark.parametrize("name", sorted(VERIFIERS))
@pytest.mark.parametrize("answer", ["", " \n"])
def test_an_empty_answer_scores_zero_and_says_so(name, answer):
    assert VERIFIERS[name](answer, ".*") == (0.0, "empty answer")


def test_instructions_score_the_share_followed():
    both = instruction("punctuation:no_comma") + FEWER_THAN_FIVE
    score, detail = VERIFIERS["instructions"]("One, two, three", both)
    assert score == 0.5
    assert detail == "not followed: punctuation:no_comma"


@pytest.mark.parametrize(
    ("name", "ground_truth", "message"),
    [
        ("numeric", "twelve", "not a number"),
        ("regex", {"pattern": "a", "fulmatch": True}, "fulmatch"),
        ("exact", [], "empty"),
        ("math", " ", "holds no formula"),
        ("instructions", [], "list of instructions"),
        ("instructions", instruction("punctuation:no_coma"), "is unknown"),
        (
            "instructions",
            instruction("length_constraints:number_sentences", num_sentences=1, relation="less than"),
            "network",
        ),
        # IFEval's checker would draw the missing relation at random.
        ("instructions", instruction("length_constraints:number_words", num_words=5), "relation"),
    ],
)
def test_an_unusable_ground_truth_raises(name, ground_truth, message):
    with pytest.raises(ValueError, match=message):
        VERIFIERS[name]("an answer", ground_truth)


def test_language_detection_gives_the_same_verdict_every_time():
    answer = "Il fait beau today and the rain is gone."
    ground_truth = instruction("language:response_language", language="fr")
    assert len({VERIFIERS["instructions"](answer, ground_truth)[0] for _ in range(10)}) == 1


def test_heavy_libraries_load_only_when_their_verifier_runs():
    code = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY / 'scripts')!r}); "
        "import adaptive_samplers.labels.correctness, adaptive_samplers.prompts; "
        "heavy = {'torch', 'math_verify', 'if_verifiable', 'datasets'}; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def crashing():
    @verifier("crashing")
    def crash(answer, ground_truth):
        if "boom" in answer:
            raise RuntimeError("out of luck")
        return 1.0, "fine"

    yield "crashing"
    del VERIFIERS["crashing"]


def prompts_table(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["prompt_id", "verifier", "ground_truth"])


def candidates_table(*rows) -> pd.DataFrame:
    columns = ["prompt_id", "heuristic_id", "seed", "text", "finish_reason", "error"]
    return pd.DataFrame(rows, columns=columns)


def test_labels_keep_order_and_leave_unverifiable_prompts_null():
    prompts = prompts_table(("p1", "numeric", "12"), ("p2", None, None))
    candidates = candidates_table(
        ("p2", "h", 0, "A poem.", "stop", None),
        ("p1", "h", 1, "12", "stop", None),
        ("p1", "h", 0, "13", "length", None),
        ("p1", "h", 2, "", "stop", None),
    )
    table = label_correctness(candidates, prompts, 0.0)
    assert list(table.columns) == [*correctness.KEY, "verifier", "score", "detail", "error"]
    assert table["prompt_id"].tolist() == ["p2", "p1", "p1", "p1"]
    assert table["seed"].tolist() == [0, 1, 0, 2]
    assert table["score"].isna().tolist() == [True, False, False, False]
    assert table["score"].tolist()[1:] == [1.0, 0.0, 0.0]
    assert table["detail"].tolist()[3] == "empty answer"
    assert table["error"].isna().all()
    assert table["score"].dtype == "float64"


def test_a_failed_generation_is_an_error_and_never_a_zero():
    prompts = prompts_table(("p1", "numeric", "12"))
    candidates = candidates_table(("p1", "h", 0, "", "error", "out of memory"))
    row = label_correctness(candidates, prompts, 0.0).iloc[0]
    assert pd.isna(row["score"])
    assert row["error"] == "generation failed: out of memory"


def test_a_crash_within_the_tolerance_is_null_with_its_error(crashing):
    prompts = prompts_table(("p1", crashing, "1"))
    candidates = candidates_table(("p1", "h", 0, "boom", "stop", None), ("p1", "h", 1, "calm", "stop", None))
    table = label_correctness(candidates, prompts, 0.5)
    assert pd.isna(table["score"][0])
    assert table["score"][1] == 1.0
    assert table["error"][0] == "RuntimeError: out of luck"


def test_crashes_above_the_tolerance_stop_the_stage_and_name_the_rows(crashing):
    prompts = prompts_table(("p1", crashing, "1"), ("p2", None, None))
    rows = [("p1", "h7", seed, "boom", "stop", None) for seed in range(8)]
    rows.append(("p2", "h7", 0, "not counted", "stop", None))
    with pytest.raises(UserError) as caught:
        label_correctness(candidates_table(*rows), prompts, 0.9)
    message = str(caught.value)
    for part in ["8 of 8", "labels.correctness.tolerance", "p1", "h7", "seed 4", "out of luck", "and 3 more"]:
        assert part in message
    assert "seed 5" not in message


@pytest.mark.parametrize(
    ("name", "ground_truth", "message"),
    [
        ("nummeric", "1", "unknown verifier"),
        ("numeric", None, "no ground truth"),
        ("numeric", '"x"', "not a number"),
    ],
)
def test_a_check_that_cannot_run_is_a_crash(name, ground_truth, message):
    candidates = candidates_table(("p1", "h", 0, "1", "stop", None))
    with pytest.raises(UserError, match=message):
        label_correctness(candidates, prompts_table(("p1", name, ground_truth)), 0.0)


def test_a_candidate_without_its_prompt_is_an_error():
    with pytest.raises(UserError, match="p9"):
        label_correctness(candidates_table(("p9", "h", 0, "1", "stop", None)), prompts_table(), 0.0)


def test_the_table_fits_its_schema(tmp_path):
    from adaptive_samplers.tables import read_table, write_table

    prompts = prompts_table(("p1", "regex", json.dumps("a")), ("p2", None, None))
    candidates = candidates_table(("p1", "h", 0, "a", "stop", None), ("p2", "h", 0, "b", "stop", None))
    table = label_correctness(candidates, prompts, 0.0)
    write_table("correctness", table, tmp_path / "correctness.parquet")
    assert read_table("correctness", tmp_path / "correctness.parquet")["score"].isna().tolist() == [
        False,
        True,
    ]
    empty = label_correctness(candidates.iloc[:0], prompts, 0.0)
    write_table("correctness", empty, tmp_path / "empty.parquet")
