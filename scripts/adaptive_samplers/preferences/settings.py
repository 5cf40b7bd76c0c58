"""How preferences are made from answers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from adaptive_samplers.config.model.preferences import Preferences


@dataclass(frozen=True)
class PreferenceSettings:
    """The keys under `preferences` that say which answers are paired and labelled; docs/preferences.md explains them.

    Attributes
    ----------
    splits : of prompts that are exported.
    group : `seed`, where the answers to a prompt under one seed meet, or `prompt`, where those of all seeds do.
    score : `reward`, `rating`, or `auto`: the reward where the judge has one.
    correctness : the role of the verifier: `ignore`, `agree` or `first`.
    finished_only : leave out answers that were cut off at the token limit.
    pairing : one of `PAIRINGS`.
    margin : the score of the better answer must exceed the other's by more than this.
    most_pairs : maximum number kept per group; None keeps all.
    rejection_beta : of statistical rejection sampling, in units of the score; None accepts all answers.
    rejection_samples : answers to accept of each group; None makes one pass.
    length_control : `none`, `ratio` or `regress`.
    length_ratio : maximum ratio of the characters of a pair's longer answer to those of the shorter one.
    threshold : what a desirable answer's score must reach: `fixed`, `mean` or `median`.
    threshold_value : with `fixed`.
    threshold_scope : mean or median of the `group`, or of `all` exported answers.
    rated : which answers the judge's ratings compare, those under a `seed` or to a `prompt`.
    """

    splits: tuple[str, ...] = ("train",)
    group: str = "seed"
    score: str = "auto"
    correctness: str = "ignore"
    finished_only: bool = False
    pairing: str = "best_worst"
    margin: float = 0.0
    most_pairs: int | None = None
    rejection_beta: float | None = None
    rejection_samples: int | None = None
    length_control: str = "none"
    length_ratio: float = 1.5
    threshold: str = "median"
    threshold_value: float = 0.0
    threshold_scope: str = "group"
    rated: str = "seed"

    @classmethod
    def from_config(cls, preferences: Preferences, splits: Iterable[str], rated: str = "seed", **others: Any) -> Self:
        """The settings in a config, with the given exceptions.

        Parameters
        ----------
        preferences : the section of the config.
        splits : the splits of the prompts; a policy iteration has its own.
        rated : `labels.quality.tournament.group`.
        others : fields that do not come from the config.
        """
        names = ("group", "score", "correctness", "finished_only", "pairing", "margin", "most_pairs")
        return cls(
            splits=tuple(splits),
            **{name: getattr(preferences, name) for name in names if name not in others},
            rejection_beta=preferences.rejection.beta,
            rejection_samples=preferences.rejection.samples,
            length_control=preferences.length.control,
            length_ratio=preferences.length.ratio,
            threshold=preferences.binary.threshold,
            threshold_value=preferences.binary.value,
            threshold_scope=preferences.binary.scope,
            rated=rated,
            **others,
        )

    @property
    def group_columns(self) -> list[str]:
        """Columns of the key by which answers are grouped."""
        return ["prompt_id", "seed"] if self.group == "seed" else ["prompt_id"]
