"""Make `verifiable_prompts.jsonl`, prompts whose answers a program can check and a small model sometimes gets right.

There are three families: `arithmetic`, `instructions` and `facts`. Each has levels, which differ in kind and
difficulty. Arithmetic and instructions are drawn at random from all that a level could ask; facts are those in
`verifiable_facts.yaml`. The file follows from the seed and that table alone:

    python resources/make_verifiable_prompts.py

`measure_verifiable_prompts.py` measures how often a model is right; README.md says how levels were chosen by that.
"""

import json
import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

FOLDER = Path(__file__).resolve().parent
FACTS = FOLDER / "verifiable_facts.yaml"
PROMPTS = FOLDER / "verifiable_prompts.jsonl"
# What these ask is not asked again.
OTHERS = [FOLDER / "prompts.jsonl", FOLDER / "judge_pairs.jsonl"]
SEED = 20261126
PER_ARITHMETIC_LEVEL = 12
PER_INSTRUCTION_LEVEL = 7
DRAWS = 1000  # for one level; if so many do not suffice, the level has too few prompts to ask

NAMES = ["Ana", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Hugo", "Ivy", "Jack", "Kate", "Leo", "Mia", "Noah"]
THINGS = ["apples", "books", "coins", "marbles", "pencils", "shells", "stamps", "stickers", "buttons", "cookies"]
SUBJECTS = [
    *["a bridge", "a kite", "a hammer", "a forest", "a lighthouse", "a library", "a market", "a winter morning"],
    *["a train ride", "a garden", "a cat", "a teacher", "an old clock", "a storm", "the moon", "a bakery"],
    *["a bicycle", "a farm", "a river", "a castle", "a beach", "a school day", "a birthday party", "the rain"],
    *["a football match", "a museum", "a mountain", "an island", "a piano", "a village"],
]
WORDS = [
    *["window", "lemon", "silver", "quiet", "yesterday", "music", "bread", "green", "letter", "friend", "bright"],
    *["morning", "happy", "blue", "dream", "winter", "gold", "shadow", "paper", "song", "small", "heart", "sweet"],
]


class Asked(NamedTuple):
    """A prompt, the verifier of its answers, and the ground truth for it."""

    prompt: str
    verifier: str
    ground_truth: Any


# Draws a prompt of a level.
Maker = Callable[[random.Random], Asked]


def _number(question: str, answer: int) -> Asked:
    return Asked(question, "numeric", answer)


def _sum(text: str, *ranges: tuple[int, int]) -> Maker:
    """Sums with one term from each range; `{}` in the text stands for them."""

    def make(generator: random.Random) -> Asked:
        terms = [generator.randint(*limits) for limits in ranges]
        return _number(text.format(" + ".join(map(str, terms))), sum(terms))

    return make


def _product(first: tuple[int, int], second: tuple[int, int], sign: str) -> Maker:
    """Products with one factor from each range; the sign may be a word."""

    def make(generator: random.Random) -> Asked:
        left, right = generator.randint(*first), generator.randint(*second)
        return _number(f"What is {left} {sign} {right}?", left * right)

    return make


def _quotient(generator: random.Random) -> Asked:
    divisor, quotient = generator.randint(2, 9), generator.randint(2, 9)
    return _number(f"What is {divisor * quotient} divided by {divisor}?", quotient)


def _half(generator: random.Random) -> Asked:
    half = generator.randint(2, 30)
    return _number(f"What is half of {2 * half}?", half)


def _story(text: str, operation: Callable[[int, int], int], first: tuple[int, int], second: tuple[int, int]) -> Maker:
    """Stories about two numbers, which stand in the text as `{first}` and `{second}`."""

    def make(generator: random.Random) -> Asked:
        numbers = generator.randint(*first), generator.randint(*second)
        name, things = generator.choice(NAMES), generator.choice(THINGS)
        given = {"first": numbers[0], "second": numbers[1], "all": numbers[0] * numbers[1]}
        return _number(text.format(name=name, things=things, **given), operation(*numbers))

    return make


SMALL, LARGE = (2, 9), (11, 49)
ARITHMETIC: dict[str, Maker] = {
    "sum of two small": _sum("What is {}?", SMALL, SMALL),
    "sum to calculate": _sum("Calculate {}.", SMALL, SMALL),
    "sum of two large": _sum("What is {}?", LARGE, LARGE),
    "small product": _product(SMALL, SMALL, "times"),
    "twice": _product((2, 2), (3, 30), "times"),
    "ten times": _product((10, 10), (3, 30), "times"),
    "large product": _product((11, 19), SMALL, "*"),
    "quotient": _quotient,
    "half": _half,
    "story of a sum": _story(
        "{name} has {first} {things} and gets {second} more. How many {things} does {name} have now?",
        lambda first, second: first + second,
        SMALL,
        SMALL,
    ),
    "story of a product": _story(
        "{name} has {first} boxes with {second} {things} in each. How many {things} does {name} have in all?",
        lambda first, second: first * second,
        SMALL,
        SMALL,
    ),
    "story of a quotient": _story(
        "{name} shares {all} {things} equally among {first} friends. How many {things} does each friend get?",
        lambda first, second: second,
        SMALL,
        SMALL,
    ),
}


def _instruction(text: str, *instructions: tuple[str, dict[str, Any]]) -> Maker:
    """Prompts that give IFEval's or IFBench's `instructions` about a subject, `{subject}` in the text.

    A text or an argument `{words[0]}` stands for a word that is drawn, and so do `{words[1]}` and `{words[2]}`.
    """

    def make(generator: random.Random) -> Asked:
        gaps = {"subject": generator.choice(SUBJECTS), "words": generator.sample(WORDS, 3)}
        ground_truth = [
            {"instruction_id": name, "kwargs": {key: _filled(value, gaps) for key, value in arguments.items()}}
            for name, arguments in instructions
        ]
        return Asked(text.format(**gaps), "instructions", ground_truth)

    return make


def _filled(value: Any, gaps: dict[str, Any]) -> Any:
    """An argument with what was drawn in its gaps."""
    if isinstance(value, list):
        return [_filled(one, gaps) for one in value]
    return value.format(**gaps) if isinstance(value, str) else value


def _pattern(text: str, pattern: str | dict[str, Any]) -> Maker:
    """Prompts whose answers follow the instruction in `text` if the pattern is found."""
    return lambda generator: Asked(text.format(subject=generator.choice(SUBJECTS)), "regex", pattern)


def _first_word(generator: random.Random) -> Asked:
    word = generator.choice(["Today", "Yesterday", "Sometimes", "Once", "Perhaps"])
    text = f"Write one sentence about {generator.choice(SUBJECTS)}. Start with the word {word}."
    return Asked(text, "regex", rf"^\W*{word.lower()}\b")


def _number_of_words(relation: str, count: int) -> tuple[str, dict[str, Any]]:
    return "length_constraints:number_words", {"num_words": count, "relation": relation}


def _letter(generator: random.Random) -> Asked:
    letter = generator.choice("bkvwyz")
    text = (
        f"Write one sentence about {generator.choice(SUBJECTS)} in which the letter {letter} appears 3 times or more."
    )
    arguments = {"letter": letter, "let_frequency": 3, "let_relation": "at least"}
    return Asked(text, "instructions", [{"instruction_id": "keywords:letter_frequency", "kwargs": arguments}])


NO_COMMA: tuple[str, dict[str, Any]] = ("punctuation:no_comma", {})
INSTRUCTIONS: dict[str, Maker] = {
    "fewer than 8 words": _instruction("Describe {subject} in fewer than 8 words.", _number_of_words("less than", 8)),
    "fewer than 12 words": _instruction(
        "Describe {subject} in fewer than 12 words.", _number_of_words("less than", 12)
    ),
    "fewer than 20 words": _instruction(
        "Describe {subject} in fewer than 20 words.", _number_of_words("less than", 20)
    ),
    "at least 25 words": _instruction("Describe {subject} with 25 words or more.", _number_of_words("at least", 25)),
    "10 to 20 words": _instruction(
        "Describe {subject} in 10 to 20 words.", ("count:word_count_range", {"min_words": 10, "max_words": 20})
    ),
    "two words": _instruction(
        'Write one sentence about {subject} that contains the words "{words[0]}" and "{words[1]}".',
        ("keywords:existence", {"keywords": ["{words[0]}", "{words[1]}"]}),
    ),
    "three words": _instruction(
        'Write one sentence about {subject} that contains the words "{words[0]}", "{words[1]}" and "{words[2]}".',
        ("keywords:existence", {"keywords": ["{words[0]}", "{words[1]}", "{words[2]}"]}),
    ),
    "a word twice": _instruction(
        'Write a sentence about {subject} that uses the word "{words[0]}" twice or more.',
        ("keywords:frequency", {"keyword": "{words[0]}", "frequency": 2, "relation": "at least"}),
    ),
    "a word and no comma": _instruction(
        'Write one sentence about {subject} that contains the word "{words[0]}" and no commas.',
        ("keywords:existence", {"keywords": ["{words[0]}"]}),
        NO_COMMA,
    ),
    "no comma": _instruction("Write two sentences about {subject}. Do not use any commas.", NO_COMMA),
    "without is": _instruction(
        'Write one sentence about {subject} without the word "is".',
        ("keywords:forbidden_words", {"forbidden_words": ["is"]}),
    ),
    "without and": _instruction(
        'Write one sentence about {subject} without the word "and".',
        ("keywords:forbidden_words", {"forbidden_words": ["and"]}),
    ),
    "a letter": _letter,
    "two points": _instruction(
        "Say something about {subject} in exactly 2 short bullet points. Start each with an asterisk, such as: "
        "* This is a point.",
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}),
    ),
    "title": _instruction(
        "Give me a title for a poem about {subject}, wrapped in double angular brackets, such as <<a title>>.",
        ("detectable_format:title", {}),
    ),
    "placeholder": _instruction(
        "Write a one-line invitation to see {subject}. Use a placeholder in square brackets, such as [name].",
        ("detectable_content:number_placeholders", {"num_placeholders": 1}),
    ),
    "highlight": _instruction(
        "Write one sentence about {subject} and highlight one part with asterisks, like *this*.",
        ("detectable_format:number_highlighted_sections", {"num_highlights": 1}),
    ),
    "one of three answers": _instruction(
        'Do you like {subject}? Answer with exactly one of these: "My answer is yes." "My answer is no." '
        '"My answer is maybe."',
        ("detectable_format:constrained_response", {}),
    ),
    "last words": _instruction(
        'Write one sentence about {subject}. Finish with exactly these words: "That is all."',
        ("startend:end_checker", {"end_phrase": "That is all."}),
    ),
    "first word": _first_word,
    "one sentence": _pattern(
        "Write one sentence about {subject}, and no more than one.",
        {"pattern": r"[^.!?]+[.!?]+\W*", "fullmatch": True},
    ),
    "question": _pattern("Write a question about {subject}. End with a question mark.", r"\?[\"'”’]?\s*$"),
}


def read_facts(path: Path = FACTS) -> dict[str, list[tuple[str, list[str]]]]:
    """The questions of each level with their accepted answers."""
    levels = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        level: [
            (facts["question"].format(asked), [accepted] if isinstance(accepted, str) else accepted)
            for asked, accepted in facts["answers"].items()
        ]
        for level, facts in levels.items()
    }


def _fact(question: str, accepted: list[str]) -> Asked:
    # No word boundaries, which are also within twenty-four.
    pattern = rf"(?<![\w-])({'|'.join(map(re.escape, accepted))})(?![\w-])"
    return Asked(f"{question} Answer in one short sentence.", "regex", pattern)


def _given_away(asked: Asked) -> bool:
    """Whether a number that is asked for is in the prompt, as in 16 divided by 4.

    It would be found in answers that only repeat the question.
    """
    return asked.verifier == "numeric" and str(asked.ground_truth) in re.findall(r"\d+", asked.prompt)


def drawn(level: str, make: Maker, count: int, seen: set[str], generator: random.Random) -> list[Asked]:
    """`count` prompts of a level that neither give their answer away nor are in `seen`, which they are added to.

    Raises
    ------
    ValueError
        If the level has fewer.
    """
    chosen: list[Asked] = []
    for _ in range(DRAWS):
        asked = make(generator)
        if asked.prompt not in seen and not _given_away(asked):
            seen.add(asked.prompt)
            chosen.append(asked)
        if len(chosen) == count:
            return chosen
    raise ValueError(f"{level}: only {len(chosen)} of {count} prompts differ; ask for fewer, or widen the level")


def make_prompts(others: Iterable[str]) -> list[dict[str, Any]]:
    """The rows of the file: `prompt`, `kind`, `verifier`, `ground_truth`, `family` and `level`.

    Parameters
    ----------
    others
        Prompts that are not drawn, in these words. Facts are given, and must not be among them.

    Raises
    ------
    ValueError
        If a level has too few prompts, or a fact is already asked for.
    """
    seen = set(others)
    rows = []

    def add(family: str, level: str, kind: str, some: Iterable[Asked]) -> None:
        rows.extend({**asked._asdict(), "kind": kind, "family": family, "level": level} for asked in some)

    for family, levels, count in [
        ("arithmetic", ARITHMETIC, PER_ARITHMETIC_LEVEL),
        ("instructions", INSTRUCTIONS, PER_INSTRUCTION_LEVEL),
    ]:
        for level, make in levels.items():
            # Each level has randomness of its own, so that a change to one leaves the others as they are.
            generator = random.Random(f"{SEED} {family} {level}")
            add(family, level, "verifiable", drawn(level, make, count, seen, generator))
    for level, facts in read_facts().items():
        for question, _ in facts:
            if (known := next((one for one in seen if one.startswith(question)), None)) is not None:
                raise ValueError(f"{FACTS.name}, {level}: {known!r} is asked elsewhere; take the fact out")
        add("facts", level, "factual", (_fact(question, accepted) for question, accepted in facts))
    return rows


def main() -> None:
    """Make the prompts and write them."""
    others = [json.loads(line)["prompt"] for path in OTHERS for line in path.read_text("utf-8").split("\n") if line]
    rows = make_prompts(others)
    PROMPTS.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows)} prompts in {PROMPTS.name}")


if __name__ == "__main__":
    main()
