"""Which given answers a language model reads together, and whether it reads a prompt once for all its answers."""

from collections.abc import Sequence
from dataclasses import dataclass

Pair = tuple[Sequence[int], Sequence[int]]  # token ids of a prompt and of an answer

TOGETHER = 8  # batches whose prompts are read at once, and kept meanwhile
# Reading prompts first takes more calls of the model, so it must save this share of the tokens. It does where answers
# are short for their prompts; where they are long, all answers in the order of their lengths are better.
WORTHWHILE = 0.1


@dataclass(frozen=True)
class Block:
    """Batches of positions of answers, and whether their prompts are read first, each once, or with every answer."""

    batches: list[list[int]]
    prompts_first: bool


def plan_reading(pairs: Sequence[Pair], batch_size: int, may_read_prompts_first: bool) -> list[Block]:
    """How to read all answers with few tokens, repeated ones and padding included.

    The plan depends on the arguments alone. The longest come first, so that memory that is too small is noticed early.

    Parameters
    ----------
    batch_size : answers in a batch.
    may_read_prompts_first : whether the model can.
    """
    prompts = [tuple(prompt) for prompt, _ in pairs]
    answers = [len(answer) for _, answer in pairs]
    whole = [len(prompt) + length for prompt, length in zip(prompts, answers, strict=True)]
    by_length = _cut(sorted(range(len(pairs)), key=whole.__getitem__, reverse=True), batch_size)
    # The last token of a prompt is read with the answer: the distribution of the answer's first token is after it.
    if not may_read_prompts_first or any(len(prompt) < 2 for prompt in prompts):
        return [Block([batch], False) for batch in by_length]
    order = sorted(range(len(pairs)), key=lambda i: (len(prompts[i]), prompts[i]), reverse=True)
    blocks, tokens = [], 0
    for block in _cut(order, TOGETHER * batch_size):
        tokens += len({prompts[i] for i in block}) * max(len(prompts[i]) - 1 for i in block)
        batches = _cut(sorted(block, key=answers.__getitem__, reverse=True), batch_size)
        tokens += sum(len(batch) * max(answers[i] + 1 for i in batch) for batch in batches)
        blocks.append(Block(batches, True))
    if tokens > (1 - WORTHWHILE) * sum(len(batch) * max(whole[i] for i in batch) for batch in by_length):
        return [Block([batch], False) for batch in by_length]
    return blocks


def _cut(order: Sequence[int], size: int) -> list[list[int]]:
    return [list(order[start : start + size]) for start in range(0, len(order), size)]
