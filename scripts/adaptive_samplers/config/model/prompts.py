"""Which prompts are answered."""

from typing import Literal

from adaptive_samplers.config.fields import Section, key, section
from adaptive_samplers.config.model.types import PromptKind


class PromptSource(Section):
    """A file of prompts."""

    path: str = key(
        "JSON lines, JSON or Parquet file, relative to the working directory.",
        min_length=1,
        example="path: resources/prompts.jsonl",
        path=True,
    )
    prompt_key: str | None = key(
        "Field that holds the prompt, a text or a list of chat messages `{role, content}`; `null` takes "
        "`messages` if a row has it, otherwise `prompt`.",
        default=None,
        min_length=1,
    )
    kind: PromptKind | None = key(
        "Kind of all prompts of this source; `null` reads it from the field `kind_key`.", default=None
    )
    kind_key: str = key(
        "Field that holds a prompt's kind (creative, verifiable, factual or chat).", default="kind", min_length=1
    )
    verifier: str | None = key(
        "Verifier of all prompts of this source, one of docs/verifiers.md or of labels.correctness.verifiers;"
        " `null` reads it from each row.",
        default=None,
        min_length=1,
    )
    verifier_key: str | None = key(
        "Field that holds the name of a prompt's verifier, or null; every row must have it. If left out, rows "
        "may have the field `verifier`. Answers to prompts without a verifier have no correctness.",
        default=None,
        min_length=1,
    )
    ground_truth_key: str = key(
        "Field that holds what the verifier compares an answer with.", default="ground_truth", min_length=1
    )
    system_prompt: str | None = key(
        "System message put before every prompt of this source; `null` adds none.", default=None, min_length=1
    )
    dataset: str | None = key(
        "Name of the source in tables and figures; `null` takes the file's name without its extension.",
        default=None,
        min_length=1,
    )
    limit: int | None = key(
        "Maximum number of prompts of this source, in the order of the file; `null` takes all.", default=None, ge=1
    )


class SplitShares(Section):
    """Shares of the prompts, which must sum to 1. A prompt's split follows from the hash of its content, so that it
    is the same in every run with these shares."""

    train: float = key("Share of prompts whose selected answers train the samplers.", default=0.5, gt=0, lt=1)
    validation: float = key(
        "Share of prompts for early stopping and for choosing among heuristics.", default=0.2, gt=0, lt=1
    )
    test: float = key("Share of prompts for the final comparison, read once.", default=0.3, gt=0, lt=1)


class PerKind(Section):
    """Maximum number of prompts of each kind in each split."""

    train: int | None = key("Maximum number of training prompts of each kind; `null` takes all.", default=None, ge=1)
    validation: int | None = key(
        "Maximum number of validation prompts of each kind; `null` takes all.", default=None, ge=1
    )
    test: int | None = key("Maximum number of test prompts of each kind; `null` takes all.", default=None, ge=1)


class PromptSettings(Section):
    """Which prompts are answered, and how they are divided."""

    sources: list[PromptSource] = key(
        "Files of prompts, read in this order; duplicates are taken once.",
        min_length=1,
        example="sources: [{path: resources/prompts.jsonl}]",
    )
    unusable_ground_truths: Literal["refuse", "leave_out"] = key(
        "What to do with prompts whose ground truth cannot be used: its verifier scores it as wrong or reads "
        "only part of it, or another row of the same prompt contradicts it. `refuse` stops and lists them; "
        "`leave_out` goes on without them and names each in the log.",
        default="refuse",
    )
    split: SplitShares = section(SplitShares, noun="split")
    per_kind: PerKind = section(PerKind, noun="split")
