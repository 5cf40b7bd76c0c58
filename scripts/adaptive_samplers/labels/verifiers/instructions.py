"""`instructions`: the checkers of IFEval (Zhou et al. 2023, arXiv 2311.07911) and IFBench (Pyatkin et al. 2025,
arXiv 2507.02833), from the package if-verifiable.

Some checkers need nltk data that no package contains. If it is not installed, their instructions are refused; nothing
is downloaded.
"""

import functools
import re
from typing import Any, NoReturn

from adaptive_samplers.labels.verifiers.registry import Verdict, nearest, verifier

_WORDS = "tokenizers/punkt_tab"
_NLTK_DATA = {
    "length_constraints:number_sentences": [_WORDS],
    "change_case:capital_word_frequency": [_WORDS],
    "ratio:stop_words": ["corpora/stopwords"],
    "words:start_verb": [_WORDS, "taggers/averaged_perceptron_tagger_eng"],
    "words:keywords_specific_position": [_WORDS],
    "words:words_position": [_WORDS],
    "format:title_case": [_WORDS],
}


# Arguments that checkers search for as regular expressions. Rows mean them literally, so they are escaped.
_SEARCHED = {
    "keywords:existence": "keywords",
    "keywords:frequency": "keyword",
    "keywords:forbidden_words": "forbidden_words",
    "detectable_format:multiple_sections": "section_spliter",
    "detectable_content:postscript": "postscript_marker",
}
_POSTSCRIPTS = ("P.S.", "P.P.S")  # the checker has its own patterns for these


class _NoChance:
    """Replaces the module `random` in the checkers' modules: arguments that they would draw are refused instead."""

    def __getattr__(self, name: str) -> NoReturn:
        raise ValueError("it would draw another value at random")


@functools.cache
def _checkers() -> dict[str, Any]:
    """Every checker's class by the name of its instruction."""
    import langdetect
    import nltk

    # Language detection is random unless seeded, and a verdict must not depend on earlier answers.
    langdetect.DetectorFactory.seed = 0
    download = nltk.download
    nltk.download = lambda *_, **__: False  # IFBench's module would download data when imported
    try:
        import if_verifiable.ifbench as ifbench
        import if_verifiable.ifeval as ifeval
        from if_verifiable.ifbench.instructions_registry import INSTRUCTION_DICT as IFBENCH
        from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT as IFEVAL
    finally:
        nltk.download = download
    for package in (ifeval, ifbench):
        for module in (package.instructions, package.instructions_util):
            module.random = _NoChance()
    return IFEVAL | IFBENCH


def _check(ground_truth: Any) -> None:
    """Raise unless every checker uses exactly the arguments given and can be satisfied."""
    for instruction in _instructions(ground_truth):
        name, given = instruction["instruction_id"], _given(instruction)
        _built(instruction)
        if (problem := _never_followed(name, given)) is not None:
            raise ValueError(f"no answer can follow the instruction '{name}' with {given}: {problem}")


@verifier("instructions", check=_check, load=_checkers)
def verify_instructions(answer: str, ground_truth: list[dict[str, Any]]) -> Verdict:
    """The share of instructions that the answer follows, by the strict checkers of IFEval and IFBench.

    The ground truth is a list of `{"instruction_id": ..., "kwargs": {...}}`. Every argument must be given and within
    the checker's range: otherwise the checker would draw it at random.
    """
    instructions = _instructions(ground_truth)
    broken = [one["instruction_id"] for one in instructions if not _built(one).check_following(answer.strip())]
    detail = f"not followed: {', '.join(broken)}" if broken else "all followed"
    return 1 - len(broken) / len(instructions), detail


def _instructions(ground_truth: Any) -> list[dict[str, Any]]:
    if (
        not isinstance(ground_truth, list)
        or not ground_truth
        or not all(isinstance(one, dict) and isinstance(one.get("instruction_id"), str) for one in ground_truth)
    ):
        raise ValueError('the ground truth must be a list of instructions, {"instruction_id": ..., "kwargs": {...}}')
    return ground_truth


def _given(instruction: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an instruction. Data sets have null for the arguments of other instructions."""
    return {key: value for key, value in (instruction.get("kwargs") or {}).items() if value is not None}


def _built(instruction: dict[str, Any]) -> Any:
    """The checker of an instruction, with exactly the arguments that are given.

    Raises
    ------
    ValueError
        If the checker is unknown, lacks data, lacks an argument, has none of that name, or would use another value.
    """
    name, given = instruction["instruction_id"], _given(instruction)
    if name not in _checkers():
        raise ValueError(f"the instruction '{name}' is unknown; {nearest(name, _checkers())}")
    if missing := _missing_data(name):
        raise ValueError(
            f"the instruction '{name}' needs nltk's data '{missing}', which is not installed; install it where nltk "
            "looks (the folders in nltk.data.path), or take the instruction out"
        )
    checker = _checkers()[name](name)
    keys = checker.get_instruction_args_keys()
    for key in keys:
        if key not in given:
            raise ValueError(f"the instruction '{name}' lacks its argument '{key}'")
    for key in given:
        if key not in keys:
            known = nearest(key, keys) if keys else "it takes none"
            raise ValueError(f"the instruction '{name}' takes no argument '{key}'; {known}")
    given = _escaped(name, given)
    try:
        checker.build_description(**given)
    except Exception as error:
        why = str(error) if isinstance(error, ValueError) else repr(error)
        raise ValueError(f"the checker of '{name}' cannot use {_given(instruction)}: {why}") from error
    used = checker.get_instruction_args() or {}
    for key, value in given.items():
        if not _means_the_same(value, used[key]):
            raise ValueError(f"the checker of '{name}' uses {used[key]!r} as its '{key}', not {value!r}")
    return checker


def _escaped(name: str, given: dict[str, Any]) -> dict[str, Any]:
    key = _SEARCHED.get(name)
    if key is None or given[key] in _POSTSCRIPTS:
        return given
    value = given[key]
    if name == "keywords:forbidden_words":
        # The checker searches between word boundaries, where "C++" is never found.
        for word in value:
            if not re.fullmatch(r"\w(?:.*\w)?", word, re.DOTALL):
                raise ValueError(
                    f"the checker of '{name}' cannot find {word!r}, which does not begin and end as words do"
                )
    escape = re.escape if isinstance(value, str) else lambda texts: [re.escape(text) for text in texts]
    return given | {key: escape(value)}


def _means_the_same(given: Any, used: Any) -> bool:
    """Whether a checker uses the value it was given, apart from case, outer spaces and the order of lists."""
    if isinstance(given, str) and isinstance(used, str):
        return given.strip().lower() == used.strip().lower()
    if isinstance(given, list) and isinstance(used, list):
        return set(given) == set(used)
    return type(given) is type(used) and given == used


def _never_followed(name: str, given: dict[str, Any]) -> str | None:
    """Why an instruction cannot be followed, as far as its arguments tell; None if it can."""
    numbers = {key: value for key, value in given.items() if isinstance(value, int | float)}
    relation = next((value for key, value in given.items() if key.endswith("relation")), None)
    if relation == "less than" and any(value <= 0 for value in numbers.values()):
        return "nothing occurs less than 0 times"
    if name == "count:word_count_range" and given["min_words"] > given["max_words"]:
        return "the most words are fewer than the least"
    if given.get("num_paragraphs") == 0:
        return "every text has a paragraph"
    if name == "language:response_language":
        import langdetect.detector_factory

        langdetect.detector_factory.init_factory()
        known = langdetect.detector_factory._factory.get_lang_list()
        if given["language"] not in known:
            return f"langdetect knows no such language; {nearest(given['language'], known)}"
    return None


@functools.cache
def _missing_data(name: str) -> str | None:
    import nltk

    for resource in _NLTK_DATA.get(name, []):
        try:
            nltk.data.find(resource)
        except LookupError:
            return resource
    return None
