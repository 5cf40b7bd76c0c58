"""Sentence embeddings of answers and prompts, computed once per distinct text."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_id, content_number
from adaptive_samplers.labels.vectors import read_embeddings
from adaptive_samplers.models.fetch import check_model
from adaptive_samplers.progress import progress


def embed_texts(
    texts: Iterable[str],
    model_folder: Path | str,
    device: str,
    batch_size: int,
    trust_remote_code: bool = False,
) -> pd.DataFrame:
    """Embed every distinct text with a sentence-transformers model from a local folder.

    Parameters
    ----------
    texts : strings; repeated ones are embedded once, and the empty string is a text like any other.
    model_folder : folder of the model, complete with tokenizer and pooling.
    device : torch's device name, such as `cpu` or `cuda`.
    batch_size : texts embedded at once.
    trust_remote_code : whether code that comes with the model may run.

    Returns
    -------
    The embeddings table: `text_id` and the unit-length `vector` (float32), sorted by `text_id`. If the model gives an
    empty text the zero vector, it is kept.

    Raises
    ------
    UserError
        If the folder is missing or holds no such model, or the model gives a text a vector that is not finite.

    References
    ----------
    Reimers and Gurevych (2019), Sentence-BERT.
    """
    # Texts of similar length share a batch, so that there is little padding; ties are ordered by the text itself.
    unique = sorted(set(texts), key=lambda text: (len(text), text))
    vectors: list[np.ndarray] = []
    if unique:
        model = _load_model(Path(model_folder), device, trust_remote_code)
        with progress(total=len(unique), description="embedding texts", unit="text") as bar:
            for start in range(0, len(unique), batch_size):
                batch = unique[start : start + batch_size]
                encoded = model.encode(
                    batch,
                    batch_size=batch_size,
                    normalize_embeddings=True,
                    convert_to_numpy=True,
                    show_progress_bar=False,
                )
                encoded = np.asarray(encoded, dtype=np.float32)
                _refuse_without_numbers(batch, encoded, model_folder)
                vectors.extend(encoded)
                bar.update(len(batch))
    table = pd.DataFrame({"text_id": [content_id(text) for text in unique], "vector": vectors})
    return table.sort_values("text_id", ignore_index=True)


def _refuse_without_numbers(texts: Sequence[str], vectors: np.ndarray, model_folder: Path | str) -> None:
    finite = np.isfinite(vectors).all(axis=-1)
    if not finite.all():
        text = texts[int(np.flatnonzero(~finite)[0])]
        raise UserError(
            f"{model_folder}: the embedder gives {(~finite).sum()} of {len(texts)} texts a vector that is not finite, "
            f"the first is {text[:60]!r}; its weights may be damaged, or overflow in their data type"
        )


def embed_in_parts(parts: Iterable[set[str]], embed: Callable[[Iterable[str]], pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The embeddings tables of sets of texts, each text in the first that has it; 8 bytes a text are kept."""
    known = np.empty(0, dtype=np.uint64)
    for texts in parts:
        new = {content_number(text): text for text in texts}
        numbers = np.fromiter(new, np.uint64, len(new))
        left = [new[number] for number in np.setdiff1d(numbers, known, assume_unique=True).tolist()]
        known = np.union1d(known, numbers)
        del texts, new  # before the next part is read
        if left:
            yield embed(left)
        del left


def embed_others(
    texts: Iterable[str], known: Path | str, embed: Callable[[Iterable[str]], pd.DataFrame]
) -> pd.DataFrame:
    """The embeddings table of texts; the vectors of those that the table `known` has are taken from it.

    Raises
    ------
    UserError
        If `known` cannot be read as an embeddings table.
    """
    unique = set(texts)
    found = read_embeddings(known, unique)
    there = set(found["text_id"])
    others = [text for text in unique if content_id(text) not in there]
    if not others:
        return found.sort_values("text_id", ignore_index=True)
    return pd.concat([found, embed(others)]).sort_values("text_id", ignore_index=True)


@lru_cache(maxsize=1)  # one model embeds all parts of the answers
def _load_model(folder: Path, device: str, trust_remote_code: bool):
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; the embedder must be fetched before texts are embedded")
    check_model(folder)
    # Imported here: reading embeddings must not take the seconds of loading torch.
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(
            str(folder), device=device, local_files_only=True, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: cannot be loaded as a sentence-transformers model ({error})") from error
