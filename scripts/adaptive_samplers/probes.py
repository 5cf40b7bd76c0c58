"""Probes: next-token distributions at a few steps of test answers, raw, as the heuristic and as samplers make them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from adaptive_samplers.errors import UserError
from adaptive_samplers.heuristics import (
    Pipeline,
    apply_along_answers,
    apply_to_logits,
    is_stateful,
    parse_processors,
    pipeline_name,
    sort_logits,
)
from adaptive_samplers.logits import masked_log_softmax
from adaptive_samplers.messages import question_of
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.samplers.base import load_sampler

CANDIDATE_ANSWERS = 12
TOKENS_SHOWN = 12
CONTEXT_CHARACTERS = 60


def probe_distributions(
    training_set: pd.DataFrame,
    prompts: pd.DataFrame,
    model: LanguageModel,
    samplers: Mapping[str, Path],
    count: int,
) -> list[dict[str, Any]]:
    """What happens to the most probable tokens at `count` token-steps of selected test answers.

    The steps are spread evenly over the range of entropies that occurs: from steps where the model is nearly sure to
    steps where it is uncertain. No step is chosen by how well a sampler does there.

    Returns
    -------
    One entry per step, in the order of entropies: `question`, `context` (the text before the token), `chosen_token`,
    `heuristic`, `tokens` (most probable first), `raw`, `target` (their probabilities), `learned` (the same for each
    sampler) and `tail_mass` (the probability of all other tokens under each of them).

    Raises
    ------
    UserError
        If no answer of the test split was selected.
    """
    answered = (training_set["split"] == "test") & (training_set["token_ids"].map(len) > 0)
    rows = training_set[answered].drop_duplicates("answer_id").head(CANDIDATE_ANSWERS)
    if rows.empty:
        raise UserError(
            "no answer to a test prompt was selected, so no distributions can be shown; raise scoring.top_k"
        )
    pairs = [(list(r.prompt_token_ids), list(r.token_ids)) for r in rows.itertuples()]
    steps = []
    for position, logits in model.answer_logits(pairs, batch_size=4):
        log_probs, _ = masked_log_softmax(logits[: len(pairs[position][1])])
        entropies = -(log_probs.exp() * log_probs).nan_to_num(0.0).sum(-1)
        logits = logits.cpu()
        steps += [(float(entropy), position, step, logits[: step + 1]) for step, entropy in enumerate(entropies)]
    steps.sort(key=lambda step: step[:3])
    places = torch.linspace(0, len(steps) - 1, count + 2)[1:-1].round().int().tolist()
    questions = dict(zip(prompts["prompt_id"], prompts["messages"].map(question_of), strict=True))
    return [_describe(steps[place], rows.iloc[steps[place][1]], questions, model, samplers) for place in places]


def _describe(
    step: tuple[float, int, int, torch.Tensor],
    row: pd.Series,
    questions: dict[str, str],
    model: LanguageModel,
    samplers: Mapping[str, Path],
) -> dict[str, Any]:
    entropy, _, position, upto = step
    logits = upto[-1:]
    pipeline = parse_processors(json.loads(row["processors"]))
    outputs = {"raw": logits, "target": _target(upto, row["token_ids"][:position], pipeline)}
    with torch.no_grad():
        outputs |= {name: load_sampler(str(path), "cpu").logits(logits) for name, path in samplers.items()}
    probabilities = {name: output.double().softmax(-1)[0] for name, output in outputs.items()}
    shown = probabilities["raw"].topk(TOKENS_SHOWN).indices
    values = {name: p[shown].tolist() for name, p in probabilities.items()}
    return {
        "question": questions[row["prompt_id"]],
        "context": model.decode(row["token_ids"][:position])[-CONTEXT_CHARACTERS:],
        "chosen_token": model.decode(row["token_ids"][position : position + 1]),
        "heuristic": pipeline_name(pipeline),
        "entropy": entropy,
        "tokens": _texts(model, shown.tolist()),
        "raw": values.pop("raw"),
        "target": values.pop("target"),
        "learned": values,
        "tail_mass": {name: 1 - float(p[shown].sum()) for name, p in probabilities.items()},
    }


def _target(logits: torch.Tensor, token_ids: Sequence[int], pipeline: Pipeline) -> torch.Tensor:
    """What a pipeline makes of the last of the logits `[L, V]`, after those before it chose `token_ids`: `[1, V]`."""
    if not is_stateful(pipeline):
        return apply_to_logits(logits[-1:], [pipeline])
    t, order = sort_logits(logits)
    chosen = torch.zeros(len(logits))
    chosen[:-1] = logits[:-1].log_softmax(-1).gather(1, torch.tensor(token_ids)[:, None]).squeeze(1)
    target = apply_along_answers(t, None, [0, len(logits)], [pipeline], chosen).t[-1:]
    return torch.empty_like(target).scatter_(-1, order[-1:], target)


def _texts(model: LanguageModel, token_ids: Sequence[int]) -> list[str]:
    return [model.tokenizer.decode([token]) for token in token_ids]
