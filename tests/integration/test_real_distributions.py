"""Heuristics on the embedded model's own distributions; `bench/accuracy.py --parts warpers` has a thousand of them."""

from typing import NamedTuple

import pytest
import torch
from accuracy import CHAINS, WARPED, at_temperatures
from torch import Tensor
from warpers import differences

from adaptive_samplers.config.load import load_config
from adaptive_samplers.config.typed import typed_config
from adaptive_samplers.heuristics import (
    Pipeline,
    Processor,
    apply_on_support,
    apply_to_logits,
    configured_pipeline,
    sort_logits,
)
from adaptive_samplers.heuristics.pipelines import grid_pipelines
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.off_policy import RecordedDraws, log_prob_of_draws
from support import REPOSITORY, read_config

pytestmark = pytest.mark.model
TEXT = "The lighthouse keeper wrote one letter a day, and burned it in the evening because no ship came by."


@pytest.fixture(scope="module")
def rows(model: LanguageModel) -> Tensor:
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


ALL_CHAINS = [*CHAINS, *([{name: value}] for name, value in WARPED)]


class Drawn(NamedTuple):
    """Forty draws from each of some distributions as they are, so that most chains cut some of them.

    They are recorded, and their places among all the sorted tokens are known.
    """

    recorded: RecordedDraws
    t: Tensor
    places: Tensor


def drawn_from(rows: Tensor) -> Drawn:
    tokens = torch.multinomial(rows.softmax(-1), 40, replacement=True, generator=torch.Generator().manual_seed(5))
    recorded = RecordedDraws.from_logits(rows.repeat_interleave(40, dim=0), tokens.flatten(), top=96, tail=64)
    t, token_ids = sort_logits(rows)
    return Drawn(recorded, t, token_ids.argsort(-1).gather(1, tokens))


@pytest.fixture(scope="module")
def heated(rows: Tensor) -> Drawn:
    return drawn_from(rows)


def errors_of_recorded(drawn: Drawn, pipeline: Pipeline, differing: int = 0) -> Tensor:
    """Errors of log q of the draws, of which at most so many are kept by one and cut by the other."""
    found = log_prob_of_draws(pipeline, drawn.recorded)
    left = apply_on_support(drawn.t.double(), None, [pipeline] * len(drawn.t)).t
    expected = (left - left.logsumexp(-1, keepdim=True)).gather(1, drawn.places).flatten()
    both = expected.isfinite() & found.isfinite()
    assert (expected.isfinite() != found.isfinite()).sum() <= differing
    return (found - expected)[both].abs()


@pytest.mark.parametrize("chain", ALL_CHAINS, ids=str)
def test_recorded_draws_tell_what_is_kept_also_of_flat_distributions(heated, chain):
    """Where a cut falls into a group of a heated distribution, it may be off by a token of many.

    What is kept is known to a few thousandths.
    """
    assert errors_of_recorded(heated, configured_pipeline(chain), differing=5).max() < 0.03


def test_recorded_draws_give_the_probabilities_of_all_tokens(model):
    """On the model's own distributions, under the heuristics of the default config together."""
    heuristics = typed_config(load_config(read_config("config.yaml"), REPOSITORY)).heuristics
    pipelines = [pipeline for block in heuristics.grid for pipeline in grid_pipelines(block)]
    pipelines += map(configured_pipeline, heuristics.pipelines)
    prompt = model.encode_chat([{"role": "user", "content": "Go on."}])
    [(_, logits)] = model.answer_logits([(prompt, model.tokenizer(TEXT)["input_ids"])], 1)
    drawn = drawn_from(logits)
    errors = torch.cat([errors_of_recorded(drawn, pipeline) for pipeline in pipelines])
    print(
        f"{len(errors)} draws, error of log q: 99th percentile {errors.quantile(0.99):.1e}, largest {errors.max():.1e}"
    )
    assert errors.quantile(0.99) < 5e-4
