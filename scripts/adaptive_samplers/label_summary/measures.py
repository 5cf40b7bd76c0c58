"""The labels that are described: where each stands, its unit, and whether it is an answer's or a group's."""

from typing import NamedTuple

CANDIDATES = "candidates"


class Measure(NamedTuple):
    """A number that answers have.

    Attributes
    ----------
    table, column : where it stands. What is made from the columns of the candidates has a name of its own.
    title : for a reader, with its unit.
    of_group : whether the answers to a prompt under a heuristic, across seeds, have one value together.
    correlated : whether its correlations with the others mean anything.
    """

    table: str
    column: str
    title: str
    of_group: bool = False
    correlated: bool = True


MEASURES = (
    Measure("quality", "rating", "Quality rating"),
    Measure("quality", "rating_stderr", "Standard error of the rating", correlated=False),
    Measure("quality", "reward", "Judge's reward"),
    Measure("correctness", "score", "Correctness (0 to 1)"),
    Measure("diversity", "self_bleu", "Self-BLEU (0 to 1)"),
    Measure("diversity", "embedding_entropy", "Embedding entropy (bits)", of_group=True),
    Measure("diversity", "vendi_score", "Vendi score (answers)", of_group=True),
    Measure("diversity", "distinct_1", "Distinct words (share)", of_group=True),
    Measure("diversity", "distinct_2", "Distinct 2-grams (share)", of_group=True),
    Measure("diversity", "distinct_3", "Distinct 3-grams (share)", of_group=True),
    Measure("diversity", "compression_ratio", "Compression ratio", of_group=True),
    Measure("overlap", "coverage", "Corpus coverage (share)"),
    Measure("overlap", "breaks", "Spans in the corpus (number)"),
    Measure("overlap", "longest_match", "Longest match (tokens)"),
    Measure(CANDIDATES, "tokens", "Length (tokens)"),
    Measure(CANDIDATES, "mean_logprob", "Mean log-probability (nats)"),
)
LABEL_TABLES = tuple(dict.fromkeys(measure.table for measure in MEASURES if measure.table != CANDIDATES))
BY_COLUMN = {measure.column: measure for measure in MEASURES}
