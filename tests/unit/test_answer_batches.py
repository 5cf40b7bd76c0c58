"""How given answers are read together: prompts once where that pays, and the same logits however they are read."""

import numpy as np
import pytest
import torch

from adaptive_samplers.models.answer_batches import TOGETHER, plan_reading

GENERATOR = np.random.default_rng(3)
PROMPTS = [GENERATOR.integers(3, 300, length).tolist() for length in (9, 5, 14, 9, 2)]
LENGTHS = [0, 7, 3, 11, 4, 8]
PAIRS = [(prompt, GENERATOR.integers(3, 300, length).tolist()) for prompt in PROMPTS for length in LENGTHS]


def tokens_read(pairs, blocks):
    """All tokens that the model reads, padding included."""
    total = 0
    for block in blocks:
        if block.prompts_first:
            prompts = {tuple(pairs[i][0][:-1]) for batch in block.batches for i in batch}
            total += len(prompts) * max(map(len, prompts))
        for batch in block.batches:
            longest = max(len(pairs[i][1]) + (1 if block.prompts_first else len(pairs[i][0])) for i in batch)
            total += len(batch) * longest
    return total


@pytest.mark.parametrize("may", [True, False])
def test_every_answer_is_in_one_batch_of_at_most_that_size(may):
    blocks = plan_reading(PAIRS, 4, may)
    batches = [batch for block in blocks for batch in block.batches]
    assert sorted(i for batch in batches for i in batch) == list(range(len(PAIRS)))
    assert max(map(len, batches)) == 4 and len(batches) == 8  # 30 answers
    assert [block.prompts_first for block in blocks] == [may] * len(blocks)
    assert max(len(block.batches) for block in blocks) <= (TOGETHER if may else 1)


def test_prompts_are_read_once_where_that_saves_tokens():
    pairs = [(list(range(10, 50)), [1] * 20)] * 16
    assert tokens_read(pairs, plan_reading(pairs, 8, False)) == 16 * 60
    assert tokens_read(pairs, plan_reading(pairs, 8, True)) == 39 + 16 * 21


def test_long_answers_are_read_in_the_order_of_their_lengths():
    lengths = np.random.default_rng(0).integers(1, 1000, 800)
    pairs = [([2 + row % 400] * 20, [1] * length) for row, length in enumerate(lengths.tolist())]
    blocks = plan_reading(pairs, 8, True)
    assert not any(block.prompts_first for block in blocks)
    longest = [max(len(pairs[i][1]) for i in block.batches[0]) for block in blocks]
    assert longest == sorted(longest, reverse=True)


def test_a_prompt_of_one_token_has_none_to_read_first():
    pairs = [([5], [1, 2])] * 8 + [([5] * 40, [1, 2])] * 8
    assert not any(block.prompts_first for block in plan_reading(pairs, 8, True))


def test_logits_are_those_of_answers_read_alone(tiny_model):
    assert plan_reading(PAIRS, 4, True)[0].prompts_first
    read = dict(tiny_model.answer_logits(PAIRS, 4))
    assert sorted(read) == list(range(len(PAIRS)))
    with torch.inference_mode():
        for position, (prompt, answer) in enumerate(PAIRS):
            alone = tiny_model.model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 :]
            torch.testing.assert_close(read[position], alone, rtol=0, atol=1e-4)


def test_logits_depend_on_no_answers_that_are_left_out(tiny_model):
    whole = dict(tiny_model.answer_logits(PAIRS, 4))
    done = set(range(0, len(PAIRS), 3)) | set(range(6))
    rest = dict(tiny_model.answer_logits(PAIRS, 4, done))
    assert set(rest) == set(whole) - done
    assert all(torch.equal(logits, whole[position]) for position, logits in rest.items())


def test_a_model_with_a_recurrent_state_reads_prompts_with_their_answers(tiny_model, monkeypatch):
    assert tiny_model._may_read_prompts_first
    monkeypatch.setattr(tiny_model.model.config, "layer_types", ["full_attention", "linear_attention"], raising=False)
    monkeypatch.delitem(vars(tiny_model), "_may_read_prompts_first")
    assert not tiny_model._may_read_prompts_first
    monkeypatch.delitem(vars(tiny_model), "_may_read_prompts_first")
