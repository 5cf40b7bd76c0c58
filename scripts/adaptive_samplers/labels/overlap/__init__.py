"""Overlap of answers with a reference corpus: which spans of tokens occur there verbatim.

The corpus is an index on disk, made from any text (`index`), or one of infini-gram's behind its HTTP API
(`infinigram`). How an answer is put together from spans of it is the same for both (`matching`, `table`).
"""

from adaptive_samplers.labels.overlap.index import build_index, open_index, read_corpus, tokenize_corpus
from adaptive_samplers.labels.overlap.infinigram import InfinigramClient, LookupFailed, ReplyCache
from adaptive_samplers.labels.overlap.matching import greedy_segments, match_lengths
from adaptive_samplers.labels.overlap.table import label_overlap
from adaptive_samplers.labels.overlap.tracers import InfinigramTracer, LocalTracer, Trace, open_tracer

__all__ = [
    "InfinigramClient",
    "InfinigramTracer",
    "LocalTracer",
    "LookupFailed",
    "ReplyCache",
    "Trace",
    "build_index",
    "greedy_segments",
    "label_overlap",
    "match_lengths",
    "open_index",
    "open_tracer",
    "read_corpus",
    "tokenize_corpus",
]
