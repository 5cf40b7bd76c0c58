"""How answers are composed of spans of a corpus, whatever looks up the spans."""

from collections.abc import Callable, Sequence

import numpy as np

Contains = Callable[[list[int]], bool]


def match_lengths(token_ids: Sequence[int], contains: Contains) -> np.ndarray:
    """For each position, how many tokens from there on occur in the corpus as one span (int32 [n]).

    Without its first token, a match may get longer but never shorter, so a single pass finds all lengths: the end of a
    match only moves forward. It moves in doubling steps, and so does the start towards the first index from which the
    next token can be reached. New text takes about two look-ups per token; copied text takes about two times the binary
    logarithm of its length per copy.

    Parameters
    ----------
    token_ids : n token ids.
    contains : whether a span of at least one token occurs in the corpus.
    """
    tokens = [int(token_id) for token_id in token_ids]
    lengths = np.zeros(len(tokens), dtype=np.int32)
    start = end = 0  # tokens[start:end] is known to occur, or empty
    while start < len(tokens):
        first = start
        end = _last_true(lambda place, first=first: contains(tokens[first:place]), end, len(tokens))
        if end < len(tokens):
            # tokens[start : end + 1] does not occur: up to which start does it not?
            last = end
            start = 1 + _last_true(lambda place, last=last: not contains(tokens[place : last + 1]), start, end)
        else:
            start = end
        lengths[first:start] = end - np.arange(first, start)
        end = min(end + 1, len(tokens))
    return lengths


def _last_true(holds: Callable[[int], bool], known: int, limit: int) -> int:
    """The largest index from `known` to `limit` where `holds` is true; true at `known`, and never again once false."""
    # Steps of 1, 1, 2, 4 ...: most matches of new text are short, and a first step of 2 would often be one too many.
    step, moved = 1, 0
    while known + step <= limit and holds(known + step):
        known += step
        moved += step
        step = moved
    beyond = min(known + step, limit + 1)
    while beyond - known > 1:
        middle = (known + beyond) // 2
        if holds(middle):
            known = middle
        else:
            beyond = middle
    return known


def greedy_segments(lengths: np.ndarray) -> list[tuple[int, int]]:
    """Cut an answer from the left into longest matches: (start, matched tokens) of each segment.

    A token that does not occur in the corpus at all is a segment of its own, with 0 matched tokens.
    """
    segments = []
    start = 0
    while start < len(lengths):
        matched = int(lengths[start])
        segments.append((start, matched))
        start += max(matched, 1)
    return segments
