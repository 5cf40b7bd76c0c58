"""Features of the pairs that the embedded judge is trained on."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.embeddings import embed_texts
from adaptive_samplers.labels.judges.features import answer_features
from adaptive_samplers.labels.vectors import vectors_for
from adaptive_samplers.models.device import choose_device
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.reading import read_objects

COLUMNS = ["prompt", "chosen", "rejected", "corruption"]
BATCH_SIZE = 16


def read_pairs(path: Path) -> pd.DataFrame:
    """Pairs of a better and a worse answer: JSON lines with `prompt`, `chosen`, `rejected` and `corruption`.

    Raises
    ------
    UserError
        If the file cannot be read or holds no pairs, or a row lacks a key.
    """
    pairs = []
    for row in read_objects(path, "labels.quality.judge.pairs"):
        for column in COLUMNS:
            if not isinstance(row.values.get(column), str):
                raise row.complain(f"lacks the key '{column}', a text", f"each row needs {', '.join(COLUMNS)}")
        pairs.append([row.values[column] for column in COLUMNS])
    if not pairs:
        raise UserError(f"{path}: holds no pairs; write one on each line, with {', '.join(COLUMNS)}")
    return pd.DataFrame(pairs, columns=COLUMNS)


def pair_features(
    pairs: pd.DataFrame,
    names: Sequence[str],
    model: LanguageModel | None,
    embedder: Path,
    device: str,
    trust_remote_code: bool,
) -> pd.DataFrame:
    """`prompt`, `corruption`, and `chosen_*` and `rejected_*` for each of the judge's features.

    Parameters
    ----------
    names : the features.
    model : the base model; None if no feature is a log-probability.
    embedder : the embedder's folder.
    device : where it computes, as the config says it.
    """
    answers = sorted({(row.prompt, text) for row in pairs.itertuples() for text in (row.chosen, row.rejected)})
    scored = [((), ())] * len(answers) if model is None else _scored(answers, model)
    texts = {text for pair in answers for text in pair}
    embeddings = embed_texts(texts, embedder, choose_device(device), batch_size=32, trust_remote_code=trust_remote_code)
    asked = vectors_for([prompt for prompt, _ in answers], embeddings)
    said = vectors_for([answer for _, answer in answers], embeddings)
    features = {
        pair: answer_features(pair[1], tokens, ends, [0] * len(tokens), "stop", relevance, names)
        for pair, (tokens, ends), relevance in zip(answers, scored, (asked * said).sum(axis=1), strict=True)
    }
    table = pairs[["prompt", "corruption"]].copy()
    for side in ("chosen", "rejected"):
        values = [features[row.prompt, getattr(row, side)] for row in pairs.itertuples()]
        table[[f"{side}_{name}" for name in names]] = values
    return table


def _scored(answers: Sequence[tuple[str, str]], model: LanguageModel) -> list[tuple[list[float], list[float]]]:
    """Log-probabilities of each answer's tokens, and of ending before and after each, given its prompt."""
    token_ids = [
        (model.encode_chat([{"role": "user", "content": prompt}]), model.encode(answer)) for prompt, answer in answers
    ]
    return model.score_answers(token_ids, BATCH_SIZE)
