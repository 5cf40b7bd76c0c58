"""Verifiers tell good answers from bad ones."""

import re
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.verifiers import VERIFIERS, Verification, instructions, reasoning
from adaptive_samplers.labels.verifiers.regex_examples import example_of
from support import REPOSITORY


def instruction(name: str, **arguments) -> list[dict]:
    return [{"instruction_id": name, "kwargs": arguments}]


FEWER_THAN_FIVE = instruction("length_constraints:number_words", num_words=5, relation="less than")

PALINDROMES = instruction("words:palindrome")
LONG_WORDS = instruction("count:word_count_range", min_words=3, max_words=5)


ADDING = {"tests": ["assert add(1, 2) == 3"]}
# More of both, and attacks, are in test_sandbox.py.
RIGHT_CODE = [
    "def add(a, b): return a + b",
    "```python\ndef add(a, b):\n    return a + b\n```",
    "add = int.__add__",
    "import operator\nadd = operator.add",
    "def add(*numbers): return sum(numbers)",
    "class Adder:\n    def __call__(self, a, b): return a + b\nadd = Adder()",
    "Sure!\n```\ndef add(a, b):\n    print('adding')\n    return b + a\n```",
    "def add(a, b=2): return 3",
]
WRONG_CODE = [
    "def add(a, b): return a - b",
    "def add(a): return a",
    "def add(a, b) return a + b",
    "add = 3",
    "def sub(a, b): return a + b",
    "I would add the numbers.",
    "```text\ndef add(a, b): return a + b\n```",
    "def add(a, b): raise SystemExit",
]

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
    ("regex", "The capital is Paris, in France.", r"\bparis\b"),
    ("regex", "two\nlines: Paris\n", r"lines: (paris|london)$"),
    ("regex", "It has 12 members", r"\b(12|twelve)\b"),
    ("regex", "TWELVE!", r"\b(12|twelve)\b"),
    ("regex", "École", "école"),
    ("regex", "2026-11-21", {"pattern": r"\d{4}-\d\d-\d\d", "fullmatch": True}),
    ("regex", " Yes. \n", {"pattern": r"yes\W*", "fullmatch": True}),
    ("exact", "  The  Nile. ", "the nile"),
    ("exact", "“Tokyo”", ["Kyoto", "Tokyo"]),
    ("exact", "**Tokyo**", "Tokyo"),
    ("exact", "TOKYO!", "tokyo"),
    ("exact", "new\n york", "New York"),
    ("exact", "STRASSE", "Straße"),
    ("exact", "ﬁsh", "fish"),  # a ligature
    ("exact", "(1984)", "1984"),
    ("exact", "Oslo)", "Oslo"),
    ("exact", "F(x).", "f(x)"),
    ("exact", "(.5)", ".5"),
    ("exact", "[0, 1)", "[0, 1)"),
    ("exact", "<think>Kyoto?</think> Tokyo", "Tokyo"),
    ("math", "So we get $\\frac{1}{2}$.", "0.5"),
    ("math", "The result is 12.", 12),
    ("math", "$x^2 + 2x + 1$", "$(x+1)^2$"),
    ("math", "\\boxed{\\sqrt{8}}", "$2\\sqrt{2}$"),
    ("math", "The set is $\\{1, 2, 3\\}$", "$\\{3, 2, 1\\}$"),
    ("math", "First $5$, but finally $x = 7$.", "$7$"),
    ("math", "It is $(1, 2)$", "$(1,2)$"),
    ("math", "$50\\%$", "0.5"),
    ("math", "1,000", 1000),
    ("instructions", "Only four words here", FEWER_THAN_FIVE),
    ("instructions", "<<Rain>>\nIt rains.", instruction("detectable_format:title")),
    ("instructions", "A small lizard ran.", instruction("keywords:existence", keywords=["lizard"])),
    ("instructions", "No pause at all.", instruction("punctuation:no_comma")),
    (
        "instructions",
        "a quiet morning in the garden with birds.",
        instruction("change_case:english_lowercase"),
    ),
    ("instructions", "level radar civic madam refer kayak rotor solos stats tenet", PALINDROMES),
    ("instructions", "just four words here", LONG_WORDS),
    ("instructions", "One (two [three {four (five [six])}]).", instruction("format:parentheses")),
    ("instructions", "Nospacehere", instruction("format:no_whitespace")),
    ("instructions", "Sure 😀. Yes 🎉.", instruction("format:emoji")),
    ("instructions", "It costs 3 and 4 coins", instruction("count:numbers", N=2)),
    *(("code", answer, ADDING) for answer in RIGHT_CODE),
]
BAD = [
    ("numeric", "7 or 8", 7),
    ("numeric", "#### 13\nand 12 eggs", 12),
    ("numeric", "12.5", 12),
    ("regex", "parisian", r"\bparis\b"),
    ("regex", "Pariss", {"pattern": "paris", "fullmatch": True}),
    ("regex", "112", r"\b(12|twelve)\b"),
    ("regex", "(12|twelve)", r"^\(12$"),
    ("regex", "21 November", r"\d{4}-\d\d-\d\d"),
    ("regex", "No.", "yes"),
    ("exact", "Kyoto or Tokyo", ["Kyoto", "Tokyo"]),
    ("exact", "Tokio", "Tokyo"),
    ("exact", "1984.0", "1984"),
    ("exact", "19 84", "1984"),
    ("exact", "not Tokyo", "Tokyo"),
    ("exact", "!", "Tokyo"),
    ("exact", "5", ".5"),
    ("exact", ".5", "5"),
    ("exact", "(0, 1)", "[0, 1)"),
    ("exact", "<think>Tokyo</think> Kyoto", "Tokyo"),
    ("exact", "<think>Tokyo", "Tokyo"),
    ("regex", "<think>Paris or Rome</think> Rome", "paris"),
    ("instructions", "<think>A quiet</think> a pause, then", instruction("punctuation:no_comma")),
    ("exact", "Tokyo\nKyoto", "Tokyo"),
    ("math", "$x^2 + 2x$", "$(x+1)^2$"),
    ("math", "$\\sqrt{2}$", "$2\\sqrt{2}$"),
    ("math", "$\\{1, 2\\}$", "$\\{3, 2, 1\\}$"),
    ("math", "$7$, so in the end $8$", "$7$"),
    ("math", "$(2, 1)$", "$(1,2)$"),
    ("math", "1.000", 1000),
    ("instructions", "No such words in here.", PALINDROMES),
    ("instructions", "only two", LONG_WORDS),
    ("instructions", "One (two) three.", instruction("format:parentheses")),
    ("instructions", "Some space", instruction("format:no_whitespace")),
    ("instructions", "Sure. Yes.", instruction("format:emoji")),
    ("instructions", "It costs 3 coins", instruction("count:numbers", N=2)),
    *(("code", answer, ADDING) for answer in WRONG_CODE),
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


def test_every_verifier_has_eight_good_and_eight_bad_answers():
    for table in (GOOD, BAD):
        counts = Counter(name for name, _, _ in table)
        assert set(counts) == set(VERIFIERS) - {"reasoning_gym"}  # in test_reasoning_gym.py
        assert min(counts.values()) >= 8, counts


@pytest.mark.parametrize(
    "pattern", ["^$", "a{3000}", r"(?<!x)y", r"(.)\1", "(a|b|c){40}$", r"[^\W\d]", "(?>a|ab)c", "x{2,5}?"]
)
def test_a_pattern_that_some_text_may_match_is_accepted(pattern):
    VERIFIERS["regex"].accept(pattern)


@given(st.from_regex(re.compile(r"[a-c.$^|*+?()\[\]{}\\\\]{1,8}"), fullmatch=True))
@settings(max_examples=300, deadline=None)
def test_a_pattern_is_refused_only_if_hypothesis_finds_no_text_for_it_either(pattern):
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except re.error:
        return
    if example_of(pattern) is None:
        for text in ["", "a", "b", "ab", "a b", "abc", "c", "\n", "a\nb", "$", "^", ".", pattern, pattern.lower() * 2]:
            assert compiled.search(text) is None


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
        ("instructions", instruction("punctuation:no_coma"), "did you mean 'punctuation:no_comma'"),
        ("instructions", instruction("ratio:stop_words", percentage=3), "nltk's data"),
        ("code", "assert add(1, 2) == 3", "must be"),
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
        "import adaptive_samplers.labels.correctness, adaptive_samplers.prompts, adaptive_samplers.config; "
        "heavy = {'torch', 'math_verify', 'if_verifiable', 'datasets', 'reasoning_gym', 'nltk'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_instruction_that_needs_no_data_runs():
    """Every checker answers on any text; those that need data of nltk are listed, and no other does."""
    arguments = {
        **{"min_words": 1, "max_words": 9, "N": 2, "percentage": 30, "small_n": 2, "reference_text": "a b c d e"},
        **{"word": "cat", "options": "a/b/c", "sep": "...", "keyword": "cat", "n": 1, "m": 1, "n_start": 1, "n_end": 2},
        **{f"keyword{number}": "abcde"[number - 1] for number in range(1, 6)},
        **{"prompt_to_repeat": "one two three four", "keywords": ["cat"], "frequency": 1, "relation": "at least"},
        **{"forbidden_words": ["dog"], "letter": "a", "let_frequency": 1, "let_relation": "at least", "language": "en"},
        **{"num_paragraphs": 1, "num_words": 3, "nth_paragraph": 1, "first_word": "a", "num_placeholders": 1},
        **{"postscript_marker": "P.S.", "num_bullets": 1, "num_highlights": 1, "section_spliter": "SECTION"},
        **{"num_sections": 1, "end_phrase": "cat", "num_sentences": 1, "capital_frequency": 1},
        **{"capital_relation": "at least"},
    }
    checkers = instructions._checkers()
    assert len(checkers) == 25 + 58  # IFEval's and IFBench's
    refused = set()
    for name, checker in checkers.items():
        given = {key: arguments[key] for key in checker(name).get_instruction_args_keys()}
        for text in ["A cat sat. It saw the dog!\n\nYes.", "x", "日本語の文章です。", "**a**\n- b\n  - c"]:
            try:
                assert VERIFIERS["instructions"](text, instruction(name, **given))[0] in (0.0, 1.0)
            except ValueError as error:
                assert "nltk's data" in str(error)
                refused.add(name)
    assert refused <= set(instructions._NLTK_DATA)


def test_an_instruction_is_usable_where_its_data_is_installed(monkeypatch, tmp_path):
    import nltk

    (tmp_path / "corpora" / "stopwords").mkdir(parents=True)
    (tmp_path / "corpora" / "stopwords" / "english").write_text("the\na\n")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setattr(
        nltk.corpus,
        "stopwords",
        nltk.corpus.reader.WordListCorpusReader(str(tmp_path / "corpora" / "stopwords"), ["english"]),
    )
    instructions._missing_data.cache_clear()
    few = instruction("ratio:stop_words", percentage=40)
    assert VERIFIERS["instructions"]("the cat saw birds", few)[0] == 1.0
    assert VERIFIERS["instructions"]("the cat saw the a bird", few)[0] == 0.0
    instructions._missing_data.cache_clear()


def test_nothing_is_fetched_when_the_checkers_load():
    code = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY / 'scripts')!r}); import nltk\n"
        "def refuse(*_, **__): raise SystemExit('fetched')\n"
        "nltk.download = refuse\n"
        "from adaptive_samplers.labels.verifiers.instructions import _checkers; _checkers()\n"
        "assert nltk.download is refuse; print('loaded')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "loaded", done.stderr


def test_without_reasoning_gym_its_prompts_are_refused(monkeypatch):
    monkeypatch.setattr(reasoning.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install reasoning-gym"):
        Verification().require(["numeric", "reasoning_gym"])


def test_a_misspelled_verifier_gets_the_nearest_name():
    with pytest.raises(UserError, match="unknown verifier 'nummeric'; did you mean 'numeric'"):
        Verification().require(["regex", "nummeric"])
