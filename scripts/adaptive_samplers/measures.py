"""Which measures answers have: each declared once, with all that tables, scores, comparisons and figures need to know.

Nothing here needs more than the standard library, so that a config is checked without loading more.
"""

from collections.abc import Iterable
from dataclasses import dataclass

CANDIDATES = "candidates"
LABEL_TABLES = ("quality", "correctness", "diversity", "overlap")  # the first one's ratings choose examples
LABELS = ("quality", "diversity", "correctness")  # the tables that scores join and samplers are compared by


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number that answers have.

    Attributes
    ----------
    table, column : str
        Where it stands. What is made from the columns of the candidates has a name of its own.
    name : str
        For a reader.
    unit : str or None
        None of a number without one.
    meaning : str
        What docs/tables.md says of it.
    higher_is_better : bool or None
        None where neither is. Of diversity, better is more diverse.
    objective : str or None
        What `evaluation.objectives` calls it; None where samplers are not compared by it.
    axis : str
        What stands on the axis of a comparison; by default the title, or that lower is better.
    of_group : bool
        Whether the answers to a prompt under a heuristic, across seeds, have one value together.
    correlated : bool
        Whether its correlations with the others mean anything.
    type : str
        Of its column, as Arrow calls it.

    Raises
    ------
    ValueError
        If something is missing, or does not go with the rest.
    """

    table: str
    column: str
    name: str
    unit: str | None
    meaning: str
    higher_is_better: bool | None = None
    objective: str | None = None
    axis: str = ""
    of_group: bool = False
    correlated: bool = True
    type: str = "float64"

    def __post_init__(self) -> None:
        if missing := [part for part in ("table", "column", "name", "meaning") if not getattr(self, part)]:
            raise self._wrong(f"lacks its {' and its '.join(missing)}")
        if self.unit == "":
            raise self._wrong("lacks its unit; None for a number without one")
        if self.table not in (*LABEL_TABLES, CANDIDATES):
            raise self._wrong(f"is of no table of labels; those are {', '.join(LABEL_TABLES)}, and {CANDIDATES}")
        if self.table == "diversity" and not self.objective:
            raise self._wrong("lacks its objective: what answers are scored by, samplers are compared by")
        if self.objective and self.table not in LABELS:
            raise self._wrong(f"has an objective, but samplers are compared by {', '.join(LABELS)} alone")
        if self.objective and self.higher_is_better is None:
            raise self._wrong("has an objective, but lacks its direction, higher_is_better")
        if not self.axis:
            lower = "lower is more diverse" if self.table == "diversity" else "lower is better"
            axis = f"{self.name} ({lower})" if self.higher_is_better is False else self.title
            object.__setattr__(self, "axis", axis)

    def _wrong(self, what: str) -> ValueError:
        return ValueError(f"the measure '{self.column or self.name}' of '{self.table}' {what}")

    @property
    def title(self) -> str:
        """Its name with its unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def sign(self) -> float:
        """What makes more of it better: 1 or -1."""
        return 1.0 if self.higher_is_better else -1.0


def by_column(measures: Iterable[Measure]) -> dict[str, Measure]:
    """Measures by their columns, in their order.

    Raises
    ------
    ValueError
        If two have the same column or objective.
    """
    found: dict[str, Measure] = {}
    for measure in measures:
        for other in found.values():
            if measure.column == other.column:
                raise ValueError(f"the column '{measure.column}' is declared twice")
            if measure.objective and measure.objective == other.objective:
                raise ValueError(f"the objective '{measure.objective}' is that of two columns")
        found[measure.column] = measure
    return found


# In the order in which tables, the page of the labels and figures have them.
MEASURES = by_column(
    [
        Measure(
            table="quality",
            column="rating",
            name="Quality rating",
            unit=None,
            meaning="Bradley-Terry, natural-log scale; mean 0 in its tournament, of its (prompt, seed) or, with "
            "`group: prompt`, its prompt. Of `combine: mean`, in standard deviations",
            higher_is_better=True,
            objective="quality",
            axis="Quality (Bradley-Terry rating)",
        ),
        Measure(
            table="quality",
            column="rating_stderr",
            name="Standard error of the rating",
            unit=None,
            meaning="on the scale of the rating",
            correlated=False,
        ),
        Measure(
            table="quality",
            column="reward",
            name="Judge's reward",
            unit=None,
            meaning="the judge's scalar, where it has one",
        ),
        Measure(
            table="correctness",
            column="score",
            name="Correctness",
            unit="0 to 1",
            meaning="the verifier's; null where there is nothing to verify",
            higher_is_better=True,
            objective="correctness",
            axis="Correctness (mean score)",
        ),
        Measure(
            table="diversity",
            column="self_bleu",
            name="Self-BLEU",
            unit="0 to 1",
            meaning="against the other answers to the prompt under the heuristic",
            higher_is_better=False,
            objective="self_bleu",
        ),
        Measure(
            table="diversity",
            column="embedding_entropy",
            name="Embedding entropy",
            unit="bits",
            meaning="of the group's similarity spectrum",
            higher_is_better=True,
            objective="embedding_entropy",
            axis="Diversity (embedding entropy, bits)",
            of_group=True,
        ),
        Measure(
            table="diversity",
            column="vendi_score",
            name="Vendi score",
            unit="answers",
            meaning="two to the power of embedding_entropy: effective number of different answers",
            higher_is_better=True,
            objective="vendi_score",
            axis="Diversity (Vendi score)",
            of_group=True,
        ),
        *(
            Measure(
                table="diversity",
                column=f"distinct_{order}",
                name=f"Distinct {words}",
                unit="share",
                meaning=f"of the group's {words} those that are distinct, 0 to 1",
                higher_is_better=True,
                objective=f"distinct_{order}",
                of_group=True,
            )
            for order, words in enumerate(("words", "2-grams", "3-grams"), 1)
        ),
        Measure(
            table="diversity",
            column="compression_ratio",
            name="Compression ratio",
            unit=None,
            meaning="bytes of the group's texts over bytes of them compressed; grows with length",
            higher_is_better=False,
            objective="compression_ratio",
            of_group=True,
        ),
        Measure(
            table="overlap",
            column="coverage",
            name="Corpus coverage",
            unit="share",
            meaning="of the tokens those in copied spans, 0 to 1",
        ),
        Measure(
            table="overlap",
            column="breaks",
            name="Spans in the corpus",
            unit="number",
            meaning="greedy spans",
            type="int32",
        ),
        Measure(
            table="overlap",
            column="longest_match",
            name="Longest match",
            unit="tokens",
            meaning="the longest copied span",
            type="int32",
        ),
        Measure(
            table=CANDIDATES,
            column="tokens",
            name="Length",
            unit="tokens",
            meaning="without the end-of-turn token",
        ),
        Measure(
            table=CANDIDATES,
            column="mean_logprob",
            name="Mean log-probability",
            unit="nats",
            meaning="of the answer's tokens under the raw base model",
        ),
    ]
)


def measures_of(table: str) -> list[Measure]:
    """The measures that stand in a table, in the order of its columns."""
    return [measure for measure in MEASURES.values() if measure.table == table]


OBJECTIVES = {measure.objective: measure for measure in MEASURES.values() if measure.objective}
DIVERSITY_MEASURES = {measure.column: measure for measure in measures_of("diversity")}
