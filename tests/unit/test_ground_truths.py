"""Every ground truth that passes collection is right in its own words and in others, and is never taken for a part."""

from fractions import Fraction

import pytest
from ground_truths import GROUND_TRUTHS, REFUSED, Truth, boxed
from hypothesis import given
from hypothesis import strategies as st

from adaptive_samplers.labels.verifiers import VERIFIERS
from adaptive_samplers.labels.verifiers.numeric import answer_number, number_text, whole_number_of

PLACES = range(len(GROUND_TRUTHS))


def name_of(place: int) -> str:
    truth = GROUND_TRUTHS[place]
    return f"{truth.verifier}-{place}"


def test_there_are_two_hundred_with_words_of_both_kinds():
    assert len(GROUND_TRUTHS) >= 200
    assert all(truth.right and truth.near for truth in GROUND_TRUTHS)


@pytest.mark.parametrize("truth", GROUND_TRUTHS, ids=map(name_of, PLACES))
def test_a_ground_truth_is_taken_as_a_whole(truth: Truth):
    verifier = VERIFIERS[truth.verifier]
    verifier.accept(truth.ground_truth)
    for answer in truth.right:
        score, detail = verifier(answer, truth.ground_truth)
        assert score == 1, (answer, detail)
    for answer in truth.near:
        for words in near_misses(truth.verifier, answer):
            score, detail = verifier(words, truth.ground_truth)
            assert score < 1, (words, detail)


def near_misses(verifier: str, answer: str) -> list[str]:
    """A near miss in the ways in which answers are given."""
    if verifier == "math":
        return [boxed(answer), f"The answer is ${answer}$."]
    return [answer, boxed(answer), f"The answer is {answer}"] if verifier == "numeric" else [answer]


@pytest.mark.parametrize("truth", GROUND_TRUTHS, ids=map(name_of, PLACES))
def test_votes_for_equal_answers_are_equal_and_for_near_misses_are_not(truth: Truth):
    final_answer = VERIFIERS[truth.verifier].final_answer
    if final_answer is None:
        return
    right = {final_answer(answer, truth.ground_truth) for answer in truth.right}
    near = {final_answer(words, truth.ground_truth) for a in truth.near for words in near_misses(truth.verifier, a)}
    assert None not in right
    if truth.verifier == "numeric":
        assert len(right) == 1
    assert not right & near


@pytest.mark.parametrize(("name", "ground_truth", "message"), REFUSED)
def test_a_ground_truth_that_cannot_be_used_as_it_is_written_is_refused(name, ground_truth, message):
    with pytest.raises(ValueError, match=message):
        VERIFIERS[name].accept(ground_truth)


@given(st.fractions(max_denominator=10**6))
def test_the_text_of_a_number_is_read_as_that_number(number):
    assert whole_number_of(number_text(number)) == number


@given(st.integers(-(10**15), 10**15), st.integers(0, 6))
def test_a_number_is_the_same_however_it_is_written(whole, places):
    value = Fraction(whole, 10**places)
    sign, digits = "-" * (whole < 0), f"{abs(whole) // 10**places:,}"
    decimals = f".{abs(whole) % 10**places:0{places}d}" if places else ""
    for separator in (",", "", "{,}", ",\\!", "\u2009", "\\,"):
        text = f"{sign}{digits.replace(',', separator)}{decimals}"
        for form in (text, f"${text}", f"\\${text}") if not sign else (text, text.replace("-", "\u2212")):
            assert whole_number_of(form) == value, form
            for answer in (
                f"So we get {form}",
                f"The answer is {form}.",
                f"\\boxed{{{form}}} as above",
                f"x = {form}, then",
            ):
                assert answer_number(answer) == value, answer
    assert whole_number_of(f"{sign}{abs(whole)}e-{places}") == value
    assert whole_number_of(f"{sign}\\frac{{{abs(whole)}}}{{1{'0' * places}}}") == value


@given(st.integers(0, 999), st.sampled_from("+-*/^:"), st.integers(2, 999))
def test_a_part_of_something_larger_is_no_number(first, operator, second):
    found = answer_number(f"So we have {first}{operator}{second}")
    meant = {"/": Fraction(first, second), "^": Fraction(first) ** second if second <= 100 or first <= 10 else None}
    assert found == meant.get(operator) or (operator == "^" and found is None)
