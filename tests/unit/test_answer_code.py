"""An answer's solution is found among what stands around it."""

import pytest

from adaptive_samplers.labels.verifiers import VERIFIERS
from adaptive_samplers.labels.verifiers.answer_code import code_of

ADDING = {"function": "add", "calls": [{"arguments": [1, 2], "result": 3}]}
TESTED = {"tests": ["def check(candidate):\n    assert candidate(1, 2) == 3", "check(add)"]}
PROGRAM = {"cases": [{"input": "1 2", "output": "3"}]}
GREETING = {"cases": [{"input": "", "output": "hello"}]}
ADD = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return a - b\n"
SUM = "a, b = map(int, input().split())\nprint(a + b)\n"


def fenced(code: str, language: str = "python", fence: str = "```") -> str:
    return f"{fence}{language}\n{code.rstrip()}\n{fence}\n"


PLUS = "def plus(a, b):\n    return a + b\n"
ADD_BY_PLUS = "def add(a, b):\n    return plus(a, b)\n"
ADD_BY_OPERATOR = "def add(a, b):\n    return operator.add(a, b)\n"
ADD_IF = "if True:\n    def add(a, b):\n        return a + b\n"
READ_AND_ADD = "a, b = map(int, input().split())\nprint(add(a, b))\n"
BROKEN = "def add(a, b)\n    return a + b\n"
ECHO = "a = input()\nprint(a)\n"

RIGHT = {
    "no fence": (ADD, ADDING),
    "a block": (f"Sure!\n{fenced(ADD)}Done.", ADDING),
    "output after it": (f"{fenced(ADD)}It prints\n{fenced('3', '')}", ADDING),
    "output that says so": (f"{fenced(ADD)}Output:\n{fenced('3', 'output')}", ADDING),
    "output before it": (f"Expected:\n{fenced('3', '')}{fenced(ADD)}", ADDING),
    "usage after it": (f"{fenced(ADD)}Use it:\n{fenced('print(add(3, 4))')}", ADDING),
    "usage without language": (f"{fenced(ADD)}Use it:\n{fenced('print(add(3, 4))', '')}", ADDING),
    "usage that fails": (f"{fenced(ADD)}This raises:\n{fenced('add(1, None)')}", ADDING),
    "a command to run it": (f"{fenced(ADD)}{fenced('python add.py', 'bash')}", ADDING),
    "a second try": (f"{fenced(WRONG)}No, better:\n{fenced(ADD)}", ADDING),
    "a helper of its own block": (
        f"{fenced(PLUS)}and\n{fenced(ADD_BY_PLUS)}",
        ADDING,
    ),
    "imports of their own block": (
        f"{fenced('import operator')}{fenced(ADD_BY_OPERATOR)}",
        ADDING,
    ),
    "no language": (fenced(ADD, ""), ADDING),
    "capital letters and a title": (fenced(ADD, "Python3 title=add.py"), ADDING),
    "braces around the language": (fenced(ADD, "{.python}"), ADDING),
    "tildes": (fenced(ADD, "python", "~~~"), ADDING),
    "four backticks around three": ('````python\ndef add(a, b):\n    """\n```\n"""\n    return a + b\n````', ADDING),
    "in a list": (
        "1. First:\n\n   ```python\n   def add(a, b):\n       return a + b\n   ```\n\n2. Then test it.",
        ADDING,
    ),
    "the list's own line": ("- ```python\n  def add(a, b):\n      return a + b\n  ```", ADDING),
    "in a quotation": ("> ```python\n> def add(a, b):\n>     return a + b\n> ```", ADDING),
    "never closed": (f"```python\n{ADD}", ADDING),
    "opened by the prompt": (f"{ADD}```\nThis adds.", ADDING),
    "a stray fence at the end": (f"{ADD}```", ADDING),
    "after thinking": (f"<think>\n{fenced(WRONG)}or so</think>\n{fenced(ADD)}", ADDING),
    "thinking that the prompt opened": (f"{fenced(WRONG)}or so</think>\n{ADD}", ADDING),
    "thinking after which no fence stands": (f"<think>add</think>\n{ADD}", ADDING),
    "tests that define functions": (f"{fenced(ADD)}{fenced('assert add(1, 1) == 2')}", TESTED),
    "a name without def": (f"{fenced('add = lambda a, b: a + b')}{fenced('add(3, 4)')}", ADDING),
    "under a condition": (f"{fenced(ADD_IF)}{fenced('add(1, 2)')}", ADDING),
    "a program and its output": (f"{fenced(SUM)}For 1 2:\n{fenced('3', '')}", PROGRAM),
    "a program and another language's": (f"{fenced(SUM)}{fenced('std::cout << 3;', 'cpp')}", PROGRAM),
    "a program in two blocks": (
        f"{fenced(ADD)}Then read:\n{fenced(READ_AND_ADD)}",
        PROGRAM,
    ),
    "a program, then usage": (
        f"{fenced(ADD + 'print(add(*map(int, input().split())))')}e.g.\n{fenced('print(add(5, 6))')}",
        PROGRAM,
    ),
    "a program that reads nothing": (fenced('print(chr(104) + "ello")') + "It says\n" + fenced("hello", ""), GREETING),
}
NO_CODE = {
    "text alone": ("```text\ndef add(a, b): return a + b\n```", ADDING),
    "output alone": ("```\n3\n```", ADDING),
    "thinking that never ends": (f"<think>{fenced(ADD)}", ADDING),
    "the last try is wrong": (f"{fenced(ADD)}or rather\n{fenced(WRONG)}", ADDING),
    "the last try is no Python": (f"{fenced(ADD)}or rather\n{fenced(BROKEN)}", ADDING),
    "a right first program": (f"{fenced(SUM)}or\n{fenced(ECHO)}", PROGRAM),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_is_right_whatever_stands_around_it(name):
    answer, ground_truth = RIGHT[name]
    score, detail = VERIFIERS["code"](answer, ground_truth)
    assert score == 1.0, (detail, code_of(answer, ground_truth))


@pytest.mark.parametrize("name", NO_CODE)
def test_a_wrong_answer_is_wrong_whatever_stands_around_it(name):
    answer, ground_truth = NO_CODE[name]
    score, detail = VERIFIERS["code"](answer, ground_truth)
    assert score == 0.0, (detail, code_of(answer, ground_truth))


def test_what_is_no_python_counts_by_the_names_that_its_lines_define():
    assert code_of(fenced(ADD) + fenced(BROKEN), ADDING) == BROKEN.rstrip()


@pytest.mark.parametrize(
    "answer", ["```", "~~~\n```", "```python", "\ud800", "```python\n\ud800\n```", "(" * 5000, "```\n" * 999]
)
def test_odd_texts_have_some_code_or_none(answer):
    assert isinstance(code_of(answer, ADDING), str)
