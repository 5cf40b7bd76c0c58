"""Find the solution among the code in an answer.

Common harnesses take the first or last block, which may be output, an example or a command to run the solution. Here
the tests say what to look for, and the last block that has it counts, as for answers in words.
"""

import ast
import builtins
import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

# A Markdown fence, which may be in a list or a quotation, and may be followed by a language.
_OPENING = re.compile(r"(?P<indent>[ \t>]*(?:(?:[-*+]|\d+[.)])[ \t]+)?)(?P<fence>`{3,}|~{3,})[ \t]*(?P<about>[^`\n]*)")
_PYTHON = re.compile(r"\{?\.?(?:python|py|ipython|sage)[\d.]*\b", re.IGNORECASE)
_DEFINITION = re.compile(r"^(?:async +)?(?:def|class) +(\w+)|^(\w+) *(?::[^=\n]+)?=[^=]", re.MULTILINE)
_READING = re.compile(r"\binput *\(|\bstdin\b|\bopen\( *0")
_WRITING = re.compile(r"\bprint *\(|\bstdout\b")


class _Block(NamedTuple):
    """A code block of an answer: its code, and whether it is labelled as Python or not labelled at all."""

    code: str
    is_python: bool
    is_untold: bool


class _Names(NamedTuple):
    """The names that code defines at its top level, and those that it uses without binding them."""

    defined: frozenset[str]
    used: frozenset[str]


def code_of(answer: str, ground_truth: dict[str, Any]) -> str:
    """The code in an answer that the tests of its ground truth are for; "" if there is none.

    An answer without fences is code as a whole. Otherwise blocks labelled as Python count, and unlabelled ones that
    are Python. The solution is the last of them that defines what the tests call; for programs, the last that reads
    the input, or else prints. If there is none, it is the last block, preferably a labelled one. Earlier blocks that
    define what it uses are put before it.
    """
    blocks = _blocks(answer)
    if not blocks:
        return answer
    blocks = [block for block in blocks if block.is_python or (block.is_untold and _is_code(block.code))]
    if not blocks:
        return ""
    codes = [block.code for block in blocks]
    place = _last_that(codes, _signs(ground_truth))
    if place is None:
        place = max(range(len(blocks)), key=lambda number: (blocks[number].is_python, number))
    return "\n\n".join([*_needed(codes[:place], codes[place]), codes[place]])


def _blocks(answer: str) -> list[_Block]:
    """The fenced blocks of an answer. A block that is not closed extends to the end."""
    blocks: list[_Block] = []
    lines = answer.split("\n")
    number = 0
    while number < len(lines):
        opening = _OPENING.fullmatch(lines[number].rstrip())
        number += 1
        if opening is None:
            continue
        about = opening["about"].strip()
        if not blocks and not about and _is_code(before := "\n".join(lines[: number - 1])):
            # The prompt opened the block that ends here.
            blocks.append(_Block(before, is_python=True, is_untold=False))
            continue
        closing = re.compile(rf"[ \t>]*{re.escape(opening['fence'][0])}{{{len(opening['fence'])},}}[ \t]*")
        content = []
        while number < len(lines) and not closing.fullmatch(lines[number].rstrip()):
            content.append(lines[number])
            number += 1
        number += 1
        if ">" in opening["indent"]:
            content = [re.sub(r"^[ \t]*> ?", "", line) for line in content]
        code = textwrap.dedent("\n".join(content))
        blocks.append(_Block(code, bool(_PYTHON.match(about)), not about))
    return blocks


def _is_code(text: str) -> bool:
    """Whether a text is Python that does something. "5", a word or a list of words could as well be output."""
    tree = _parsed(textwrap.dedent(text))
    if tree is None:
        return bool(_DEFINITION.search(text)) and bool(
            re.search(r"^(?:async +)?(?:def|class|import|from)\b", text, re.M)
        )
    return any(
        not isinstance(part, ast.Expr) or any(isinstance(inside, ast.Call) for inside in ast.walk(part))
        for part in tree.body
    )


def _parsed(code: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escapes that Python does not know
        try:
            return ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _signs(ground_truth: dict[str, Any]) -> list[Callable[[str], bool]]:
    """Criteria for the block under test, the strongest first."""
    if "cases" in ground_truth:
        writes = lambda code: bool(_WRITING.search(code))  # noqa: E731
        if any(case["input"].strip() for case in ground_truth["cases"]):
            return [lambda code: bool(_READING.search(code)), writes]
        return [writes]
    if "calls" in ground_truth:
        wanted = {ground_truth["function"]}
    else:
        # Together, because later tests may use what earlier ones define.
        wanted = set(_names("\n".join(ground_truth["tests"])).used)
    return [lambda code: bool(wanted & _names(code).defined)]


def _last_that(codes: Sequence[str], signs: Iterable[Callable[[str], bool]]) -> int | None:
    for sign in signs:
        for place in reversed(range(len(codes))):
            if sign(codes[place]):
                return place
    return None


def _needed(before: Sequence[str], code: str) -> list[str]:
    """The earlier blocks that define what some code uses, and what those use in turn, in order."""
    needed: list[str] = []
    missing = set(_names(code).used)
    for earlier in reversed(before):
        names = _names(earlier)
        if missing & names.defined:
            needed.insert(0, earlier)
            missing = (missing - names.defined) | names.used
    return needed


def _names(code: str) -> _Names:
    """The names in some code. If it does not parse, those that its lines seem to define."""
    tree = _parsed(code)
    if tree is None:
        found = {first or second for first, second in _DEFINITION.findall(code)}
        return _Names(frozenset(found), frozenset())
    bound: set[str] = set()
    loaded: set[str] = set()
    for part in ast.walk(tree):
        if isinstance(part, ast.Name):
            (loaded if isinstance(part.ctx, ast.Load) else bound).add(part.id)
        elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(part.name)
        elif isinstance(part, ast.arg):
            bound.add(part.arg)
        elif isinstance(part, ast.alias):
            bound.add((part.asname or part.name).split(".")[0])
        elif isinstance(part, ast.ExceptHandler) and part.name:
            bound.add(part.name)
    return _Names(frozenset(_defined_at_top(tree)), frozenset(loaded - bound - set(dir(builtins))))


def _defined_at_top(tree: ast.Module) -> set[str]:
    """The names that the statements of a module bind, including those within `if` and `try`."""
    defined: set[str] = set()
    waiting: list[ast.AST] = [*tree.body]
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(part.name)
        elif isinstance(part, ast.Import | ast.ImportFrom):
            defined.update((alias.asname or alias.name).split(".")[0] for alias in part.names)
        elif isinstance(part, ast.Name):
            if isinstance(part.ctx, ast.Store):
                defined.add(part.id)
        elif not isinstance(part, ast.Lambda):
            waiting.extend(ast.iter_child_nodes(part))
    return defined
