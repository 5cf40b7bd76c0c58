"""What traces answers to a corpus: an index on this machine, or a server of infini-gram's API."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from adaptive_samplers.config.model.labels import OverlapSettings
from adaptive_samplers.errors import UserError
from adaptive_samplers.files import read_json
from adaptive_samplers.labels.overlap.index import METADATA_FILE, open_index
from adaptive_samplers.labels.overlap.infinigram import InfinigramClient, LookupFailed, ReplyCache
from adaptive_samplers.labels.overlap.matching import match_lengths
from adaptive_samplers.models.fetch import cache_folder

CACHE_FILE = "infinigram.sqlite"
MOST_THREADS = 32
# Words, a number, punctuation: different tokenizers give different results for it.
SAMPLE = "Tokenizers of 1,024 kinds can't agree; the quick brown fox jumps over 37 lazy dogs, extraordinarily."


class Trace(NamedTuple):
    """An answer's match lengths at each position (int32 [n]), or why there are none."""

    lengths: np.ndarray | None
    error: str | None = None


class Tracer(Protocol):
    """Finds the spans of answers in a corpus."""

    # Columns of the candidates table that `tokens` reads.
    columns: Sequence[str]

    def tokens(self, answers: pd.DataFrame) -> list[Sequence[int]]:
        """The token ids of answers, as the corpus has them."""
        ...

    def trace(self, answers: Sequence[Sequence[int]]) -> Iterator[Trace]:
        """Trace answers, given as token ids, in their order."""
        ...

    def measured(self) -> dict[str, Any]:
        """What to report of it at the end."""
        ...


class LocalTracer:
    """Looks spans up in an index that `build_index` wrote, with the tokenizer that made the answers' ids.

    Raises
    ------
    UserError
        If the folder holds no complete index.
    """

    columns = ("token_ids",)

    def __init__(self, folder: Path | str) -> None:
        self._contains = open_index(folder)
        self._metadata = read_json(Path(folder) / METADATA_FILE)

    def tokens(self, answers: pd.DataFrame) -> list[Sequence[int]]:
        """The answers' own token ids."""
        return list(answers["token_ids"])

    def trace(self, answers: Sequence[Sequence[int]]) -> Iterator[Trace]:
        """Trace answers, given as token ids, in their order."""
        for token_ids in answers:
            yield Trace(match_lengths(token_ids, self._contains))

    def measured(self) -> dict[str, Any]:
        """How large the corpus is."""
        return {"kind": "local", "corpus_tokens": self._metadata["tokens"]}


class InfinigramTracer:
    """Asks a server for counts, of several answers at a time.

    Parameters
    ----------
    client : InfinigramClient
    encode : callable or None
        Token ids of a text by the index's tokenizer, without special tokens; None where the answers' own ids are its.
    threads : int
        Answers that are traced concurrently.
    """

    def __init__(
        self, client: InfinigramClient, encode: Callable[[str], list[int]] | None = None, threads: int = 1
    ) -> None:
        self.client = client
        self.encode = encode
        self.threads = threads
        self.columns = ("token_ids",) if encode is None else ("text",)

    def tokens(self, answers: pd.DataFrame) -> list[Sequence[int]]:
        """The answers' own token ids, or those that the index's tokenizer gives their texts."""
        if self.encode is None:
            return list(answers["token_ids"])
        return [self.encode(text) for text in answers["text"]]

    def trace(self, answers: Sequence[Sequence[int]]) -> Iterator[Trace]:
        """Trace answers, given as token ids, in their order."""
        executor = ThreadPoolExecutor(self.threads, thread_name_prefix="trace")
        try:
            yield from executor.map(self._trace, answers)
        finally:
            executor.shutdown(cancel_futures=True)

    def _trace(self, token_ids: Sequence[int]) -> Trace:
        try:
            return Trace(match_lengths(token_ids, lambda span: self.client.count(span) > 0))
        except LookupFailed as error:
            return Trace(None, f"infini-gram: {error}")

    def measured(self) -> dict[str, Any]:
        """Which index was asked, and how often."""
        return {
            "kind": "infinigram",
            "url": self.client.url,
            "index": self.client.index,
            "requests": self.client.requests_sent,
            "found_in_cache": self.client.found_in_cache,
        }


@contextmanager
def open_tracer(overlap: OverlapSettings, inputs: Mapping[str, Any]) -> Iterator[Tracer]:
    """The tracer that the config `labels.overlap` asks for.

    Parameters
    ----------
    inputs : mapping
        The rule's input files by name: `index` where the kind is local, else `tokenizer`.

    Raises
    ------
    UserError
        If there is no complete index, the server cannot be asked, or its index has another tokenizer.
    """
    if overlap.kind == "local":
        yield LocalTracer(inputs["index"])
        return
    from transformers import AutoTokenizer

    server = overlap.infinigram
    tokenizer = AutoTokenizer.from_pretrained(str(inputs["tokenizer"]), local_files_only=True)

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    with ReplyCache(server.cache or cache_folder() / CACHE_FILE) as cache:
        pace = server.requests_per_second
        client = InfinigramClient(server.url, server.index, pace, server.timeout, cache)
        refuse_other_tokenizer(client, encode, str(inputs["tokenizer"]))
        # An answer asks its questions in sequence: this many at a time keep up the rate if each reply takes a second.
        threads = max(1, min(MOST_THREADS, math.ceil(pace)))
        yield InfinigramTracer(client, encode if server.tokenizer else None, threads)


def refuse_other_tokenizer(client: InfinigramClient, encode: Callable[[str], list[int]], name: str) -> None:
    """Stop if token ids mean other words to the index: every count would be wrong.

    Raises
    ------
    UserError
        If they do, or the server cannot be asked.
    """
    try:
        theirs = client.token_ids(SAMPLE)
    except LookupFailed as error:
        raise UserError(
            f"labels.overlap.infinigram: the index '{client.index}' at {client.url} cannot be asked: {error}. Look at "
            "the address and the index's name, and whether this machine reaches the network"
        ) from error
    # The server may treat a text as a continuation, with a space before it.
    if theirs not in (encode(SAMPLE), encode(f" {SAMPLE}")):
        raise UserError(
            f"labels.overlap.infinigram.tokenizer: the tokenizer in {name} is not that of the index '{client.index}': "
            f"of {SAMPLE!r} it makes {encode(SAMPLE)[:8]} ..., and the index {theirs[:8]} .... Name a folder with the "
            "index's tokenizer, or another index"
        )
