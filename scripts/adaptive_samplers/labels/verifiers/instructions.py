"""`instructions`: the checkers of IFEval (Zhou et al. 2023, arXiv 2311.07911) and IFBench (Pyatkin et al. 2025,
arXiv 2507.02833), as if-verifiable has them.

Some checkers need data of nltk that comes with no package. Where it is not installed, their instructions are refused;
nothing is ever fetched.
"""

import functools
from typing import Any

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


@functools.cache
def _checkers() -> dict[str, Any]:
    """Every checker's class by the name of its instruction."""
    import langdetect
    import nltk

    # Language detection is random unless seeded; a verdict must not depend on the answers before it.
    langdetect.DetectorFactory.seed = 0
    download = nltk.download
    nltk.download = lambda *_, **__: False  # IFBench's module would fetch when it is imported
    try:
        from if_verifiable.ifbench.instructions_registry import INSTRUCTION_DICT as IFBENCH
        from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT as IFEVAL
    finally:
        nltk.download = download
    return IFEVAL | IFBENCH


@verifier("instructions", load=_checkers)
def verify_instructions(answer: str, ground_truth: list[dict[str, Any]]) -> Verdict:
    """The share of instructions that the answer follows, strictly, by the checkers of IFEval and IFBench.

    The ground truth is a list of `{"instruction_id": ..., "kwargs": {...}}`. Every argument must be given,
    because the checkers would draw missing ones at random.
    """
    if not isinstance(ground_truth, list) or not ground_truth:
        raise ValueError("the ground truth must be a list of instructions")
    broken = [instruction["instruction_id"] for instruction in ground_truth if not _follows(answer, instruction)]
    detail = f"not followed: {', '.join(broken)}" if broken else "all followed"
    return 1 - len(broken) / len(ground_truth), detail


def _follows(answer: str, instruction: dict[str, Any]) -> bool:
    name, given = instruction["instruction_id"], instruction.get("kwargs") or {}
    if name not in _checkers():
        raise ValueError(f"the instruction '{name}' is unknown; {nearest(name, _checkers())}")
    if missing := _missing_data(name):
        raise ValueError(
            f"the instruction '{name}' needs nltk's data '{missing}', which is not installed; install it where nltk "
            "looks (the folders in nltk.data.path), or take the instruction out"
        )
    checker = _checkers()[name](name)
    given = {key: value for key, value in given.items() if value is not None}
    missing = [key for key in checker.get_instruction_args_keys() if key not in given]
    if missing:
        raise ValueError(f"the instruction '{name}' lacks its argument '{missing[0]}'")
    checker.build_description(**given)
    return bool(checker.check_following(answer.strip()))


@functools.cache
def _missing_data(name: str) -> str | None:
    import nltk

    for resource in _NLTK_DATA.get(name, []):
        try:
            nltk.data.find(resource)
        except LookupError:
            return resource
    return None
