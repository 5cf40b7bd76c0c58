"""Vectors of texts from an embeddings table. Nothing here needs an embedder."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_id
from adaptive_samplers.tables import read_batches


def read_embeddings(path: Path | str, texts: Collection[str] | None = None) -> pd.DataFrame:
    """The embeddings table, or its rows for some texts; little more than these vectors is in memory.

    Raises
    ------
    UserError
        If the file cannot be read as an embeddings table.
    """
    text_ids: list[str] = []
    vectors: list[np.ndarray] = []
    only = None if texts is None else ("text_id", set(map(content_id, texts)))
    for batch in read_batches("embeddings", path, only=only):
        text_ids += batch["text_id"].to_pylist()
        vectors += list(batch["vector"].flatten().to_numpy().reshape(len(batch), -1))
    return pd.DataFrame({"text_id": pd.Series(text_ids, dtype=str), "vector": pd.Series(vectors, dtype=object)})


def vectors_for(texts: Sequence[str], embeddings: pd.DataFrame) -> np.ndarray:
    """The vectors of `texts` [n, d] (float32), in their order, from an embeddings table.

    Raises
    ------
    UserError
        If a text is not in the table.
    """
    row_of = {text_id: row for row, text_id in enumerate(embeddings["text_id"])}
    id_of = {text: content_id(text) for text in set(texts)}
    missing = sorted(text for text, text_id in id_of.items() if text_id not in row_of)
    if missing:
        raise UserError(
            f"embeddings: {len(missing)} of {len(id_of)} texts have no vector, "
            f"the first is {missing[0][:60]!r}; delete the embeddings table and run again"
        )
    if not texts:
        return np.empty((0, len(embeddings["vector"].iloc[0]) if len(embeddings) else 0), dtype=np.float32)
    vectors = embeddings["vector"].to_numpy()
    return np.stack([vectors[row_of[id_of[text]]] for text in texts]).astype(np.float32, copy=False)
