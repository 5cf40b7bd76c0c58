"""Which judges there are, and what the rest of the project needs to know about them. Loads none of their packages.

docs/add_a_judge.md explains how to add one.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from adaptive_samplers.references import Reference

# What a likelihood judge measures, and the calls that it takes: `answer` and `end` are read from the same one.
LIKELIHOOD_CALLS = {"answer": "answer", "end": "answer", "unconditional": "unconditional", "question": "question"}
# What the embedded judge can know of an answer, each with whether it is a log-probability under the base model, and the
# features that it has unless the config says otherwise.
JUDGE_FEATURES = {
    "relevance": False,
    "mean_logprob": True,
    "end_logprob": True,
    "distinct_2": False,
    "word_variety": False,
    "finished": False,
}
DEFAULT_FEATURES = ("relevance", "mean_logprob", "end_logprob", "distinct_2")
# What judges may read besides prompts and answers; rules/judges.smk has the paths: embeddings of the answers, the base
# model (for its tokenizer), what the DAG trained, and a model of the judge's own.
INPUTS = ("embeddings", "model", "judge", "judge_model")


@dataclass(frozen=True, kw_only=True)
class JudgeKind:
    """A judge, as described to code that does not open it.

    Attributes
    ----------
    name : what the config calls it, as `kind`.
    opened_by : function `(case)` that returns a context manager with the `Judge`; see `Case`.
    compares : whether it is asked about two answers, and not about each alone. Only the latter gives rewards.
    inputs : what it reads besides prompts and answers, from `INPUTS`.
    columns : columns of the answers that it reads besides text and finish_reason.
    calls : model calls per answer, or per comparison, by its settings.
    """

    name: str
    opened_by: Reference
    compares: bool
    inputs: tuple[str, ...]
    columns: tuple[str, ...] = ()
    calls: Callable[[Any], int]

    def __post_init__(self) -> None:
        for name in self.inputs:
            if name not in INPUTS:
                raise TypeError(f"judge '{self.name}' reads '{name}'; there are {', '.join(INPUTS)}")

    @property
    def is_trained(self) -> bool:
        """Whether the DAG trains it."""
        return "judge" in self.inputs

    @property
    def has_model(self) -> bool:
        """Whether it has its own model, which is fetched and run here."""
        return "judge_model" in self.inputs


def has_likelihood(features: Collection[str]) -> bool:
    """Whether one of these features of an embedded judge is a log-probability under the base model."""
    return any(JUDGE_FEATURES[name] for name in features)


def likelihood_calls(judge: Any) -> list[str]:
    """The calls that a likelihood judge makes for each answer, by its weights."""
    return list(dict.fromkeys(call for term, call in LIKELIHOOD_CALLS.items() if getattr(judge.weights, term)))


def orders_asked(judge: Any) -> int:
    """In how many orders a comparing judge is shown two answers."""
    return 2 if judge.order == "both" else 1


JUDGES = {
    kind.name: kind
    for kind in (
        JudgeKind(
            name="feature_reward",
            opened_by=Reference("labels.judges.feature_reward:open_feature_reward"),
            compares=False,
            inputs=("embeddings", "model", "judge"),
            columns=("token_ids", "token_logprobs", "end_logprobs"),
            calls=lambda judge: 0,
        ),
        JudgeKind(
            name="scalar",
            opened_by=Reference("labels.judges.scalar:open_scalar"),
            compares=False,
            inputs=("judge_model",),
            calls=lambda judge: 1,
        ),
        JudgeKind(
            name="pairwise",
            opened_by=Reference("labels.judges.pairwise:open_pairwise"),
            compares=True,
            inputs=("judge_model",),
            calls=orders_asked,
        ),
        JudgeKind(
            name="likelihood",
            opened_by=Reference("labels.judges.likelihood:open_likelihood"),
            compares=False,
            inputs=("judge_model",),
            calls=lambda judge: len(likelihood_calls(judge)),
        ),
        JudgeKind(
            name="endpoint",
            opened_by=Reference("labels.judges.endpoint:open_endpoint"),
            compares=True,
            inputs=(),
            calls=orders_asked,
        ),
    )
}
