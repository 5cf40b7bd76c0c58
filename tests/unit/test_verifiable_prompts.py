"""The verifiable prompts: made again byte by byte, asked only once, and each with a ground truth that tells right from
wrong answers. Right answers follow from the prompts' own words here, not from their ground truths."""

import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter

import pandas as pd
import pytest

from adaptive_samplers.config.model.prompts import PromptSource
from adaptive_samplers.labels.verifiers import VERIFIERS
from adaptive_samplers.prompts import collect_prompts
from support import REPOSITORY

RESOURCES = REPOSITORY / "resources"
SPLIT = {"train": 0.4, "validation": 0.2, "test": 0.4}


def read_lines(name):
    return [json.loads(line) for line in (RESOURCES / name).read_text(encoding="utf-8").split("\n") if line]


def imported(name):
    spec = importlib.util.spec_from_file_location(name, RESOURCES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ROWS = read_lines("verifiable_prompts.jsonl")
MAKER = imported("make_verifiable_prompts")


def of_family(family):
    return [pytest.param(row, id=row["prompt"]) for row in ROWS if row["family"] == family]


def scores(row, *answers):
    return [VERIFIERS[row["verifier"]](answer, row["ground_truth"])[0] for answer in answers]


# The file


def test_the_file_is_what_the_generator_writes(tmp_path):
    needed = ["make_verifiable_prompts.py", "verifiable_facts.yaml", "prompts.jsonl", "judge_pairs.jsonl"]
    for name in needed:
        (tmp_path / name).write_bytes((RESOURCES / name).read_bytes())
    subprocess.run([sys.executable, tmp_path / "make_verifiable_prompts.py"], check=True, capture_output=True)
    again = (tmp_path / "verifiable_prompts.jsonl").read_bytes()
    assert again == (RESOURCES / "verifiable_prompts.jsonl").read_bytes()


def test_no_prompt_is_asked_twice_or_elsewhere():
    prompts = [" ".join(row["prompt"].casefold().split()) for row in ROWS]
    assert len(set(prompts)) == len(prompts) >= 450
    for name in ("prompts.jsonl", "judge_pairs.jsonl"):
        assert not {" ".join(row["prompt"].casefold().split()) for row in read_lines(name)} & set(prompts)
    # The same fact in other words about the answer's form is the same fact.
    questions = {row["prompt"].split("?")[0] for row in ROWS if row["family"] == "facts"}
    assert not questions & {row["prompt"].split("?")[0] for row in read_lines("prompts.jsonl")}


def test_families_are_balanced():
    counts = Counter(row["family"] for row in ROWS)
    assert set(counts) == {"arithmetic", "instructions", "facts"}
    assert max(counts.values()) < 1.25 * min(counts.values())
    for row in ROWS:
        assert row["kind"] == ("factual" if row["family"] == "facts" else "verifiable")


def test_the_workflow_takes_every_prompt_into_the_splits_that_the_readme_tells():
    table = collect_prompts([PromptSource(path="verifiable_prompts.jsonl")], SPLIT, None, RESOURCES)
    assert len(table) == len(ROWS) and not table.attrs["duplicates"] and not table.attrs["left_out"]
    sizes = table["split"].value_counts()
    told = f"{sizes['train']} for training, {sizes['validation']} for validation and {sizes['test']} for the test"
    assert told in " ".join((RESOURCES / "README.md").read_text(encoding="utf-8").split())


def test_the_readme_has_the_outcome_for_every_level():
    readme = (RESOURCES / "README.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| (\w+) \| ([^|]+) \| (\d+) \|(?: [01]\.\d\d \|){5}$", readme, re.MULTILINE)
    counts = Counter((row["family"], row["level"]) for row in ROWS)
    counts.update((row["family"], "all") for row in ROWS)
    counts.update(("all", "all") for _ in ROWS)
    assert {(family, level): int(size) for family, level, size in told} == counts


# Arithmetic


def product(numbers):
    return numbers[0] * numbers[1]


ARITHMETIC = {
    "sum of two small": sum,
    "sum to calculate": sum,
    "sum of two large": sum,
    "small product": product,
    "twice": product,
    "ten times": product,
    "large product": product,
    "quotient": lambda numbers: numbers[0] / numbers[1],
    "half": lambda numbers: numbers[0] / 2,
    "story of a sum": sum,
    "story of a product": product,
    "story of a quotient": lambda numbers: numbers[0] / numbers[1],
}


@pytest.mark.parametrize("row", of_family("arithmetic"))
def test_arithmetic_is_right(row):
    right = ARITHMETIC[row["level"]]([int(number) for number in re.findall(r"\d+", row["prompt"])])
    assert right == int(right) > 0
    right = int(right)
    assert scores(row, f"The answer is {right}.", f"{row['prompt']} It is {right}.", str(right)) == [1, 1, 1]
    # An answer that only repeats the question is wrong.
    assert scores(row, row["prompt"]) == [0]
    assert scores(row, f"The answer is {right + 1}.", f"It is {right}0.", f"-{right}", "I do not know.") == [0, 0, 0, 0]


# Instructions


def words(count):
    return " ".join(["word"] * count)


# Right and wrong answers by level, given the texts that stand in quotation marks in the prompt.
INSTRUCTIONS = {
    "fewer than 8 words": lambda quoted: ([words(7)], [words(8)]),
    "fewer than 12 words": lambda quoted: ([words(11)], [words(12)]),
    "fewer than 20 words": lambda quoted: ([words(19)], [words(20)]),
    "at least 25 words": lambda quoted: ([words(25)], [words(24)]),
    "10 to 20 words": lambda quoted: ([words(10), words(20)], [words(9), words(21)]),
    "two words": lambda quoted: (["A {} by the {}.".format(*quoted)], [f"A {quoted[0]}.", f"A {quoted[1]}."]),
    "three words": lambda quoted: (["{}, {} {}".format(*quoted)], ["{} {}".format(*quoted[1:])]),
    "a word twice": lambda quoted: ([f"A {quoted[0]} and a {quoted[0]}."], [f"A {quoted[0]}."]),
    "a word and no comma": lambda quoted: ([f"A {quoted[0]}."], [f"Oh, a {quoted[0]}.", "A thing."]),
    "no comma": lambda quoted: (["One thing. Another thing."], ["One thing, and another."]),
    "without is": lambda quoted: (["This exists."], ["It is here."]),
    "without and": lambda quoted: (["Sand lies here."], ["Sand and stones."]),
    "two points": lambda quoted: (["* One.\n* Two."], ["* One.", "* One.\n* Two.\n* Three.", "One. Two."]),
    "title": lambda quoted: (["<<A Song>>"], ['"A Song"', "A Song"]),
    "placeholder": lambda quoted: (["Come, [name]!"], ["Come, friend!"]),
    "highlight": lambda quoted: (["It is *old*."], ["It is old."]),
    "one of three answers": lambda quoted: (quoted, ["Yes."]),
    "last words": lambda quoted: ([f"A line. {quoted[0]}"], ["A line.", f"{quoted[0]} A line."]),
    "one sentence": lambda quoted: (["It is old."], ["It is old. It is here.", "It is"]),
    "question": lambda quoted: (["Why is it old?"], ["It is old.", "Why? I do not know."]),
}


def told_answers(row):
    """Right and wrong answers to a prompt."""
    if row["level"] == "a letter":
        letter = re.search(r"the letter (\w) ", row["prompt"]).group(1)
        return [letter * 3, f"{letter}o {letter}o {letter.upper()}o"], [letter * 2, "eee"]
    if row["level"] == "first word":
        word = re.search(r"the word (\w+)\.", row["prompt"]).group(1)
        return [f"{word} it rains."], [f"It rains {word}.", f"{word}ish it rains."]
    return INSTRUCTIONS[row["level"]](re.findall(r'"([^"]+)"', row["prompt"]))


@pytest.mark.parametrize("row", of_family("instructions"))
def test_instructions_are_those_of_the_prompt(row):
    right, wrong = told_answers(row)
    assert scores(row, *right) == [1] * len(right)
    assert max(scores(row, *wrong)) < 1


# Facts


ACCEPTED = {question: accepted for facts in MAKER.read_facts().values() for question, accepted in facts}


@pytest.mark.parametrize("row", of_family("facts"))
def test_facts_are_found_in_answers_and_not_in_their_questions(row):
    question = row["prompt"].removesuffix(" Answer in one short sentence.")
    accepted = ACCEPTED[question]
    assert scores(row, *(f"It is {answer}." for answer in accepted)) == [1] * len(accepted)
    # An answer that only repeats the question is wrong, and so is a word that merely contains the right one.
    assert scores(row, row["prompt"], *(f"It is x{answer}x." for answer in accepted)) == [0] * (len(accepted) + 1)
    others = {
        other
        for facts in MAKER.read_facts().values()
        if question in dict(facts)
        for _, answers in facts
        if not {answer.casefold() for answer in answers} & {answer.casefold() for answer in accepted}
        for other in answers
    }
    assert others and max(scores(row, *(f"It is {other}." for other in sorted(others)))) == 0


# Refusals, and the table of what was measured


def test_a_level_without_enough_prompts_is_refused():
    with pytest.raises(ValueError, match="few: only 1 of 2 prompts differ"):
        MAKER.drawn("few", lambda generator: MAKER.Asked("Why?", "regex", "x"), 2, set(), MAKER.random.Random(1))


def test_facts_that_are_asked_elsewhere_are_refused():
    question = next(iter(ACCEPTED))
    with pytest.raises(ValueError, match="is asked elsewhere; take the fact out"):
        MAKER.make_prompts([f"{question} Be brief."])


def answers(level, prompt, right_colder, right_warmer):
    """Eight answers at each temperature, of which so many are right."""
    return [
        {
            "family": "facts",
            "level": level,
            "prompt": prompt,
            "temperature": temperature,
            "seed": seed,
            "score": 1.0 if seed <= right else 0.5,
        }
        for temperature, right in ((0.3, right_colder), (1.0, right_warmer))
        for seed in range(1, 9)
    ]


def test_pass_rates_by_hand():
    measure = imported("measure_verifiable_prompts")
    told = [
        *answers("easy", "a", 8, 8),
        *answers("easy", "b", 4, 0),
        *answers("hard", "c", 0, 2),
        *answers("hard", "d", 0, 0),
    ]
    table = measure.tabulate(pd.DataFrame(told)).set_index(["family", "level"])
    assert [*table.loc[("facts", "easy")]] == [2, 0.5, 0.75, 0.5, 1.0, 0.5]
    assert [*table.loc[("facts", "hard")]] == pytest.approx([2, 0.5, 0.0, 0.125, 0.0, 0.5])
    for everything in [("facts", "all"), ("all", "all")]:
        assert [*table.loc[everything]] == pytest.approx([4, 0.5, 0.375, 0.3125, 0.5, 0.5])
    lines = measure.as_markdown(table.reset_index()).split("\n")
    assert (
        lines[0] == "| family | level | n | between | pass@1 at 0.3 | pass@1 at 1.0 | pass@8 at 0.3 | pass@8 at 1.0 |"
    )
    assert lines[2] == "| facts | easy | 2 | 0.50 | 0.75 | 0.50 | 1.00 | 0.50 |"


def test_prompts_without_answers_at_a_temperature_are_not_tabulated():
    measure = imported("measure_verifiable_prompts")
    told = [*answers("easy", "a", 8, 8), *answers("easy", "b", 4, 0)[:8]]
    with pytest.raises(ValueError, match="no answer at one of the temperatures"):
        measure.tabulate(pd.DataFrame(told))
