"""The measures of answers, each declared once with everything that tables, scores, comparisons and figures need.

Only the standard library is needed here, so that checking a config loads nothing more.
"""

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass

CANDIDATES = "candidates"
LABEL_TABLES = ("quality", "correctness", "diversity", "overlap")  # the first one's ratings choose examples
# The folders in which answers of all samplers are judged together, and the split of the prompts in each.
JUDGED_SPLITS = {"evaluation": "test", "validation": "validation"}
LABELS = ("quality", "diversity", "correctness")  # the tables that scores join and samplers are compared by


@dataclass(frozen=True)
class Measure:
    """A number that answers have.

    Attributes
    ----------
    table, column : where it is. Measures made from the columns of the candidates have their own names.
    name : for a reader.
    unit : None for a number without one.
    meaning : what docs/tables.md says of it.
    higher_is_better : None if neither direction is. For diversity, better is more diverse.
    objective : what `evaluation.objectives` calls it; empty where samplers are not compared by it. What answers can be
        scored by, the diversity of them, samplers are always compared by: its default is the column.
    axis : what stands on the axis of a comparison; by default the title, or that lower is better.
    of_group : whether the answers to a prompt under a heuristic, across seeds, have one value together.
    correlated : whether its correlations with the others mean anything.
    type : of its column, as Arrow calls it.

    Raises
    ------
    ValueError
        If something is missing or inconsistent.
    """

    table: str
    column: str
    name: str
    unit: str | None
    meaning: str
    _: KW_ONLY
    higher_is_better: bool | None = None
    objective: str = ""
    axis: str = ""
    of_group: bool = False
    correlated: bool = True
    type: str = "float64"

    def __post_init__(self) -> None:
        of_diversity = self.table == "diversity"
        if of_diversity and not self.objective:
            object.__setattr__(self, "objective", self.column)
        if not self.axis and self.higher_is_better is False:
            object.__setattr__(self, "axis", f"{self.name} (lower is {'more diverse' if of_diversity else 'better'})")
        elif not self.axis:
            object.__setattr__(self, "axis", self.title)
        wrong = [f"lacks its {part}" for part in ("table", "column", "name", "meaning") if not getattr(self, part)]
        if self.unit == "":
            wrong.append("lacks its unit, which is None for a number without one")
        if self.table not in (*LABEL_TABLES, CANDIDATES):
            wrong.append(f"is in none of the tables {', '.join(LABEL_TABLES)} and {CANDIDATES}")
        if self.objective and self.table not in LABELS:
            wrong.append(f"has an objective, but samplers are compared by {', '.join(LABELS)} alone")
        if self.objective and self.higher_is_better is None:
            wrong.append("lacks its direction, higher_is_better, without which samplers cannot be compared by it")
        if wrong:
            raise ValueError(f"the measure '{self.column or self.name}' {'; it '.join(wrong)}")

    @property
    def title(self) -> str:
        """Its name with its unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def sign(self) -> float:
        """The sign that makes larger values better: 1 or -1."""
        return 1.0 if self.higher_is_better else -1.0


def by_column(measures: Iterable[Measure]) -> dict[str, Measure]:
    """Measures by their columns, in their order; ValueError if two have the same column or objective."""
    found: dict[str, Measure] = {}
    for measure in measures:
        if measure.column in found:
            raise ValueError(f"the column '{measure.column}' is declared twice")
        if measure.objective and measure.objective in {other.objective for other in found.values()}:
            raise ValueError(f"the objective '{measure.objective}' is that of two columns")
        found[measure.column] = measure
    return found


_RATING = (
    "Bradley-Terry, natural-log scale; mean 0 in its tournament, of its (prompt, seed) or, with `group: prompt`, its "
    "prompt. Of `combine: mean`, in standard deviations"
)
# In the order in which tables, the page of the labels and figures have them.
MEASURES = by_column(
    [
        Measure(
            "quality",
            "rating",
            "Quality rating",
            None,
            _RATING,
            higher_is_better=True,
            objective="quality",
            axis="Quality (Bradley-Terry rating)",
        ),
        Measure(
            "quality", "rating_stderr", "Standard error of the rating", None, "on the rating's scale", correlated=False
        ),
        Measure("quality", "reward", "Judge's reward", None, "the judge's scalar, where it has one"),
        Measure(
            "correctness",
            "score",
            "Correctness",
            "0 to 1",
            "the verifier's; null where there is nothing to verify",
            higher_is_better=True,
            objective="correctness",
            axis="Correctness (mean score)",
        ),
        Measure(
            "diversity",
            "self_bleu",
            "Self-BLEU",
            "0 to 1",
            "against the other answers to the prompt under the heuristic",
            higher_is_better=False,
        ),
        Measure(
            "diversity",
            "embedding_entropy",
            "Embedding entropy",
            "bits",
            "of the group's similarity spectrum",
            higher_is_better=True,
            axis="Diversity (embedding entropy, bits)",
            of_group=True,
        ),
        Measure(
            "diversity",
            "vendi_score",
            "Vendi score",
            "answers",
            "two to the power of embedding_entropy: effective number of different answers",
            higher_is_better=True,
            axis="Diversity (Vendi score)",
            of_group=True,
        ),
        *(
            Measure(
                "diversity",
                f"distinct_{order}",
                f"Distinct {words}",
                "share",
                f"of the group's {words} those that are distinct, 0 to 1",
                higher_is_better=True,
                of_group=True,
            )
            for order, words in enumerate(("words", "2-grams", "3-grams"), 1)
        ),
        Measure(
            "diversity",
            "compression_ratio",
            "Compression ratio",
            None,
            "bytes of the group's texts over bytes of them compressed; grows with length",
            higher_is_better=False,
            of_group=True,
        ),
        Measure("overlap", "coverage", "Corpus coverage", "share", "of the tokens those in copied spans, 0 to 1"),
        Measure("overlap", "breaks", "Spans in the corpus", "number", "greedy spans", type="int32"),
        Measure("overlap", "longest_match", "Longest match", "tokens", "the longest copied span", type="int32"),
        Measure(CANDIDATES, "tokens", "Length", "tokens", "without the end-of-turn token"),
        Measure(CANDIDATES, "mean_logprob", "Mean log-probability", "nats", "of its tokens under the raw base model"),
    ]
)


def measures_of(table: str) -> list[Measure]:
    """The measures in a table, in the order of its columns."""
    return [measure for measure in MEASURES.values() if measure.table == table]


OBJECTIVES = {measure.objective: measure for measure in MEASURES.values() if measure.objective}
DIVERSITY_MEASURES = {measure.column: measure for measure in measures_of("diversity")}


def tables_of(objectives: Iterable[str]) -> list[str]:
    """The label tables that hold some objectives."""
    return sorted({OBJECTIVES[objective].table for objective in objectives})
