"""Preference data, and the report."""

from typing import Literal, get_args

from adaptive_samplers.config.fields import Section, key, section
from adaptive_samplers.config.model.types import PreferenceFormat, Split, Text


class Report(Section):
    """Figures and the report."""

    distributions: int = key(
        "Token-steps drawn in the figure of raw, target and learned distributions.", default=4, ge=1, le=1000
    )
    columns: Literal[1, 2] = key(
        "Columns of the paper, 1 or 2; its figures are drawn in the widths that follow.", default=2, affects=("paper",)
    )


class Rejection(Section):
    """Statistical rejection sampling, before pairs are chosen."""

    beta: float | None = key(
        "Above 0, in units of the score: an answer is accepted with probability exp((score - largest) / "
        "beta); `null` accepts all.",
        default=None,
        gt=0,
    )
    samples: int | None = key(
        "Answers to accept in each group, in as many passes as it takes; `null` makes one pass.", default=None, ge=2
    )


class LengthControl(Section):
    """How the length of answers is kept from deciding pairs."""

    control: Literal["none", "ratio", "regress"] = key(
        "Not at all (`none`); the lengths of a pair differ at most by a factor (`ratio`); or what length "
        "explains is removed from the scores (`regress`).",
        default="none",
    )
    ratio: float = key("Largest ratio of the two answers' numbers of characters, at least 1.", default=1.5, ge=1)


class BinaryLabels(Section):
    """Labels of single answers."""

    threshold: Literal["median", "mean", "fixed"] = key(
        "The score from which an answer is desirable.", default="median"
    )
    value: float = key("The threshold `fixed`.", default=0.0)
    scope: Literal["group", "all"] = key(
        "Mean or median of the answer's group, or of all exported answers.", default="group"
    )


class Decontamination(Section):
    """Leaves out prompts that share words with prompts of evaluations."""

    ngram: int = key("Consecutive words that prompts share; shorter prompts must be equal.", default=8, ge=1, le=1000)
    test_split: bool = key("Whether the run's own test prompts count as an evaluation.", default=True)
    files: list[Text] = key(
        "Files with prompts of other evaluations, relative to the working directory: JSON lines, JSON or Parquet "
        "with a field such as messages, prompt, instruction, question or text; or text with one prompt per line. "
        "A file without prompts is an error.",
        default=[],
        unique=True,
        path=True,
    )


class Preferences(Section):
    """The target `preferences`: preference data from the answers (docs/preferences.md)."""

    heuristics: list[Text] | None = key(
        "Heuristics whose answers are used: names as in the table `heuristics` (`temperature_0.8+top_p_0.95`), "
        "or families; `null` takes all.",
        default=None,
        min_length=1,
        unique=True,
        affects=("make_preferences", "describe_preferences"),
    )
    splits: list[Split] = key(
        "Splits whose prompts are exported.",
        default=["train"],
        min_length=1,
        unique=True,
        affects=("make_preferences", "describe_preferences"),
    )
    group: Literal["seed", "prompt"] = key(
        "Which answers to a prompt are paired: `seed`, those under the same seed, with any judge; `prompt`, all "
        "of them, if the judge gives rewards or `labels.quality.tournament.group` is prompt too.",
        default="seed",
        affects=("make_preferences", "describe_preferences"),
    )
    score: Literal["auto", "reward", "rating"] = key(
        "What ranks answers: the judge's `reward` or its `rating`; `auto` takes rewards if there are any.",
        default="auto",
    )
    correctness: Literal["ignore", "agree", "first"] = key(
        "How correctness counts: not at all (`ignore`); the winner of a pair must not be less correct (`agree`); "
        "or a more correct answer always ranks above a less correct one (`first`).",
        default="ignore",
    )
    finished_only: bool = key("Whether answers that were cut at the token limit are left out.", default=False)
    pairing: Literal["best_worst", "best_random", "above_margin", "largest_margin", "smallest_margin", "neighbors"] = (
        key(
            "Pairs of each group: the best answer against the worst or a random one, all pairs, the one with the "
            "largest or smallest margin, or neighbors in the order of scores.",
            default="best_worst",
        )
    )
    margin: float = key("The scores of a pair must differ by more than this, at least 0.", default=0.0, ge=0)
    most_pairs: int | None = key(
        "Largest number of pairs per group, drawn at random; `null` keeps all.", default=None, ge=1
    )
    rejection: Rejection = section(Rejection)
    length: LengthControl = section(LengthControl)
    binary: BinaryLabels = section(BinaryLabels)
    decontamination: Decontamination = section(Decontamination)
    formats: list[PreferenceFormat] = key(
        "Formats that are written in addition to the tables.",
        default=list(get_args(PreferenceFormat)),
        min_length=1,
        unique=True,
        affects=("describe_preferences",),
        adds_jobs_of=("export_preferences",),
    )
    license: str | None = key(
        "License of the data for its card, such as cc-by-4.0; `null` leaves it to whoever publishes.",
        default=None,
        min_length=1,
        affects=("describe_preferences",),
    )
