"""The index of a local corpus: its tokens and their suffix array, memory-mapped, made and read by tokengrams.

A span of any length is looked up in microseconds.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import atomic_output, read_json, write_json
from adaptive_samplers.progress import progress
from adaptive_samplers.reading import read_objects, read_text

TOKENS_FILE = "tokens.bin"
SUFFIXES_FILE = "suffixes.idx"
METADATA_FILE = "metadata.json"

_KEY = "labels.overlap.corpus"


def read_corpus(paths: Iterable[Path | str]) -> Iterator[str]:
    """Yield the documents of a corpus: the `text` of each line of a `.jsonl` file, any other file as a whole.

    Raises
    ------
    UserError
        If a file is missing or not UTF-8 text, or a line is not JSON with a string `text`.
    """
    for path in map(Path, paths):
        if path.suffix == ".jsonl":
            for row in read_objects(path, _KEY):
                if not isinstance(row.values.get("text"), str):
                    raise row.complain("no `text` field that is a string", "every line needs one")
                yield row.values["text"]
        else:
            yield read_text(path, _KEY)


def tokenize_corpus(documents: Iterable[str], tokenizer_folder: Path | str) -> Iterator[list[int]]:
    """Yield the token ids of each document, without special tokens, by the Hugging Face tokenizer in a
    folder."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(tokenizer_folder), local_files_only=True)
    for document in progress(documents, description="tokenizing the corpus", unit="document"):
        # `verbose` off: a document longer than the model's context is fine here.
        yield tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"]


def build_index(documents: Iterable[Sequence[int]], folder: Path | str, vocab_size: int) -> dict:
    """Write the suffix-array index of a tokenized corpus into `folder`, all of it or nothing.

    Documents are separated by an extra token with id `vocab_size`, so that no match crosses into the next one.

    Parameters
    ----------
    documents : token ids of each document, all below `vocab_size`.
    folder : gets the tokens (16 bits each, or 32 where the vocabulary needs it), the suffix array and
        `metadata.json`.
    vocab_size : number of token ids the tokenizer has.

    Returns
    -------
    The metadata: `tokens` and `documents` counted, `vocab_size`, `dtype`, `tokengrams` (its version).

    Raises
    ------
    UserError
        If the corpus holds no token.
    ValueError
        If a token id is outside the vocabulary.

    References
    ----------
    Liu et al. (2024), Infini-gram: Scaling Unbounded n-gram Language Models to a Trillion Tokens.
    """
    from tokengrams import MemmapIndex

    separator = vocab_size
    # tokengrams reads the tokens as 16 bits exactly when `vocab` is at most 2**16.
    dtype = np.dtype("<u2" if separator < 2**16 else "<u4")
    token_count = document_count = 0
    with atomic_output(folder) as temporary:
        temporary.mkdir()
        with open(temporary / TOKENS_FILE, "wb") as file:
            for document in documents:
                token_ids = np.asarray(document, dtype=np.int64)
                if len(token_ids) and not (token_ids.min() >= 0 and token_ids.max() < vocab_size):
                    raise ValueError(f"document {document_count}: a token id is outside 0 to {vocab_size - 1}")
                file.write(np.append(token_ids, separator).astype(dtype).tobytes())
                token_count += len(token_ids)
                document_count += 1
        if token_count == 0:
            raise UserError("labels.overlap.corpus: the corpus holds no text; name at least one file with text")
        MemmapIndex.build(str(temporary / TOKENS_FILE), str(temporary / SUFFIXES_FILE), vocab=separator + 1)
        metadata = {
            "tokens": token_count,
            "documents": document_count,
            "vocab_size": vocab_size,
            "dtype": dtype.name,
            "tokengrams": version("tokengrams"),
        }
        write_json(metadata, temporary / METADATA_FILE)
    return metadata


def open_index(folder: Path | str) -> Callable[[list[int]], bool]:
    """The function `contains(token_ids)` of an index that `build_index` wrote.

    Raises
    ------
    UserError
        If the folder holds no complete index.
    """
    from tokengrams import MemmapIndex

    folder = Path(folder)
    for name in (METADATA_FILE, TOKENS_FILE, SUFFIXES_FILE):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: {name} is missing, so this is no corpus index; build it again")
    vocab_size = read_json(folder / METADATA_FILE)["vocab_size"]
    index = MemmapIndex(str(folder / TOKENS_FILE), str(folder / SUFFIXES_FILE), vocab=vocab_size + 1)

    def contains(token_ids: list[int]) -> bool:
        # An id outside the corpus's vocabulary occurs nowhere; `vocab_size` itself is the separator of
        # documents.
        return max(token_ids) < vocab_size and index.contains(token_ids)

    return contains
