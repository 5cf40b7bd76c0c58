"""Heuristics on the embedded model's own distributions; `bench/accuracy.py --parts warpers` has a thousand of them."""

import pytest
import torch
from accuracy import CHAINS, WARPED, at_temperatures
from warpers import differences

from adaptive_samplers.heuristics import Processor, apply_on_support, apply_to_logits, configured_pipeline, sort_logits
from adaptive_samplers.models.language_model import LanguageModel

pytestmark = pytest.mark.model
TEXT = "The lighthouse keeper wrote one letter a day, and burned it in the evening because no ship came by."


@pytest.fixture(scope="module")
def rows(model: LanguageModel) -> torch.Tensor:
    prompt = model.encode_chat([{"role": "user", "content": "Go on."}])
    [(_, logits)] = model.answer_logits([(prompt, model.tokenizer(TEXT)["input_ids"])], 1)
    return torch.stack(list(at_temperatures(iter(logits[:20].clone()))))


@pytest.mark.parametrize(("name", "value"), WARPED)
def test_what_is_kept_is_what_hugging_face_keeps_in_float64(rows, name, value):
    assert (differences(Processor.configured(name, value), rows) <= 1e-12).all()


@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_windows_keep_what_is_kept_of_all_tokens(rows, chain):
    t, token_ids = sort_logits(rows)
    t = apply_on_support(t, None, [configured_pipeline(chain)] * len(rows)).t
    expected = torch.empty_like(t).scatter_(-1, token_ids, t)
    assert torch.equal(apply_to_logits(rows, [configured_pipeline(chain)] * len(rows)), expected)
