"""The verifier of reasoning-gym's tasks, on tasks that the package makes."""

import importlib.util
import json

import pytest

from adaptive_samplers.labels.verifiers import VERIFIERS
from support import absent

if importlib.util.find_spec("reasoning_gym") is None:
    absent("reasoning-gym is not installed; `make test` tries to (one of its packages needs a C compiler)")


def task(dataset: str, **settings) -> dict:
    """A task of reasoning-gym, as a source of prompts has it: through JSON."""
    import reasoning_gym

    return {
        "dataset": dataset,
        "entry": json.loads(json.dumps(reasoning_gym.create_dataset(dataset, size=1, seed=7, **settings)[0])),
    }


SUM = task("basic_arithmetic", min_digits=1, max_digits=1, min_terms=2, max_terms=2, operators=["+"])
TOTAL = SUM["entry"]["answer"]
SPELL = task("spell_backward", min_word_len=4, max_word_len=4)
BACKWARD = SPELL["entry"]["answer"]
CHAIN = task("chain_sum")
COUNTDOWN = task("countdown", min_numbers=3, max_numbers=3)

GOOD = [
    (TOTAL, SUM),
    (f"Adding gives {TOTAL}.", SUM),
    (f"<answer>{TOTAL}</answer>", SUM),
    (f"<answer>0</answer> no, <answer> {TOTAL} </answer>", SUM),
    (f"The answer is {TOTAL}. There were 2 terms.", SUM),
    (BACKWARD, SPELL),
    (f"Answer: {BACKWARD}.", SPELL),
    (CHAIN["entry"]["answer"], CHAIN),
    (f"<answer>{COUNTDOWN['entry']['metadata']['expression']}</answer>", COUNTDOWN),
]
BAD = [
    ("I do not know.", SUM),
    (f"<answer>{int(TOTAL) + 1}</answer>", SUM),
    (f"It is {TOTAL}, no: {int(TOTAL) + 1}", SUM),
    (f"<answer>{int(TOTAL) + 1}</answer> or {TOTAL}", SUM),
    (str(-int(TOTAL)), SUM),
    ("#### 1000", CHAIN),
    ("A large number.", CHAIN),
    ("<answer>", SUM),
]


@pytest.mark.parametrize(("answer", "ground_truth"), GOOD)
def test_a_good_answer_scores_one(answer, ground_truth):
    score, detail = VERIFIERS["reasoning_gym"](answer, ground_truth)
    assert score == 1.0 and detail


@pytest.mark.parametrize(("answer", "ground_truth"), BAD)
def test_a_bad_answer_scores_zero(answer, ground_truth):
    score, detail = VERIFIERS["reasoning_gym"](answer, ground_truth)
    assert score == 0.0 and detail


@pytest.mark.parametrize(
    ("ground_truth", "message"),
    [
        ({"dataset": "basic_aritmetic", "entry": {}}, "did you mean 'basic_arithmetic'"),
        (SUM["entry"], "must be"),
    ],
)
def test_an_unusable_ground_truth_raises(ground_truth, message):
    with pytest.raises(ValueError, match=message):
        VERIFIERS["reasoning_gym"]("an answer", ground_truth)


def test_partial_scores_of_reasoning_gym_stay_partial():
    score, _ = VERIFIERS["reasoning_gym"](f"<answer>{BACKWARD[:-1]}x</answer>", SPELL)
    assert 0 < score < 1


def test_a_task_whose_own_answer_is_wrong_is_refused():
    VERIFIERS["reasoning_gym"].check(SUM)
    broken = {"dataset": SUM["dataset"], "entry": SUM["entry"] | {"metadata": {}, "answer": ["7"]}}
    with pytest.raises(Exception, match=r"scores|str"):
        VERIFIERS["reasoning_gym"].check(broken)
