"""The probability of recorded answers under other samplers, against the whole vocabulary in float64."""

import pytest
import torch
from heuristic_references import GRID, REFERENCES, step_of
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sketch import zipf_logits

from adaptive_samplers.heuristics import (
    HEURISTICS,
    apply_on_support,
    initial_state,
    is_stateful,
    next_states,
    sort_logits,
)
from adaptive_samplers.logits import masked_log_softmax
from adaptive_samplers.off_policy import RecordedDraws, log_prob_of_answers, log_prob_of_draws
from adaptive_samplers.samplers import build_sampler

TOP, TAIL = 96, 64
VOCABULARY, ROWS, ANSWERS = 20_000, 36, 8
UNSHARED = ("top_n_sigma", "top_h_renormalized", "p_less", "p_less_norm", "quadratic", "dynamic_temperature")
PIPELINES = [
    *[[(name, value)] for name in GRID for value in GRID[name]],
    *[[(name, *values)] for name in UNSHARED for values in REFERENCES[name][2]],
    [("entropy_temperature", 0.8, 0.1)],
    [("temperature", 0.7), ("top_p", 0.9), ("top_k", 3000)],
    [("top_k", 2000), ("temperature", 1.5), ("top_p", 0.95)],
    [("top_p", 0.99), ("top_h", 0.8)],
    [("typical", 0.9), ("temperature", 1.3), ("min_p", 0.05)],
    [("mirostat", 4.0, 0.3)],
    [("annealed_temperature", 0.5, 0.4, 3.0), ("min_p", 0.02)],
    [("temperature", 1.3), ("mirostat", 6.0, 0.5)],
]


def pipeline_of(steps):
    return tuple(step_of(*step) for step in steps)


@pytest.fixture(scope="module")
def recorded() -> tuple[torch.Tensor, RecordedDraws]:
    """Logits, a row for each of the steps of eight answers, peaked to flat and many tied, and what was drawn."""
    logits = 2 * zipf_logits(ROWS, VOCABULARY, seed=7) / torch.linspace(0.4, 2.5, ROWS)[:, None]
    logits[::3] = logits[::3].bfloat16().float()
    logits = logits.repeat(ANSWERS, 1)
    logits[5, :100] = -torch.inf
    tokens = torch.multinomial(logits.softmax(-1), 1, generator=torch.Generator().manual_seed(3)).squeeze(1)
    starts = list(range(0, len(logits) + 1, ROWS))
    return logits, RecordedDraws.from_logits(logits, tokens, TOP, TAIL, starts)


def on_the_vocabulary(pipeline, logits: torch.Tensor, draws: RecordedDraws) -> torch.Tensor:
    """The log-probability of each draw, token by token from all logits in float64."""
    t = sort_logits(masked_log_softmax(logits)[0])[0].double()
    ranks, found = draws.ranks, torch.empty(len(t), dtype=torch.float64)
    for first, last in zip(draws.starts[:-1].tolist(), draws.starts[1:].tolist(), strict=True):
        state, steps = initial_state(pipeline), range(first, last)
        if not is_stateful(pipeline):
            left = apply_on_support(t[first:last], None, [pipeline] * len(steps)).t
            found[first:last] = (left - left.logsumexp(-1, keepdim=True)).gather(1, ranks[first:last, None])[:, 0]
            continue
        for step in steps:
            left = apply_on_support(t[step : step + 1], None, [pipeline], [state]).t
            found[step] = (left - left.logsumexp(-1, keepdim=True))[0, ranks[step]]
            if found[step].isinf():
                found[step:last] = -torch.inf  # what would come after a token that is never drawn
                break
            [state] = next_states([pipeline], [state], found[step : step + 1])
    return found


def test_there_is_a_setting_of_every_heuristic():
    assert {step[0] for steps in PIPELINES for step in steps} == set(HEURISTICS)


@pytest.mark.parametrize("steps", PIPELINES, ids=str)
def test_heuristics_and_chains_give_what_the_vocabulary_gives(steps, recorded):
    logits, draws = recorded
    pipeline = pipeline_of(steps)
    expected, found = on_the_vocabulary(pipeline, logits, draws), log_prob_of_draws(pipeline, draws)
    reached = expected.isfinite() if is_stateful(pipeline) else torch.ones_like(expected, dtype=torch.bool)
    wrong = (found.isfinite() != expected.isfinite()) & reached
    # How much probability is nearer to the entropy than a token is not known to the last digit.
    assert wrong.sum() <= (0.01 * len(wrong) if steps[0][0] == "typical" else 0)
    error = (found - expected)[expected.isfinite() & found.isfinite()].abs()
    assert error.quantile(0.9) < 1e-3 and error.max() < 5e-3


@pytest.mark.parametrize(
    "architecture", ["LocalProbabilityTransform", "SimpleDistributionAwareTransform", "SamplingNetwork"]
)
def test_architectures_give_what_the_vocabulary_gives(architecture, recorded):
    logits, draws = recorded
    sampler = build_sampler(architecture, {}, seed=1)
    found = log_prob_of_draws(sampler, draws)
    order = sort_logits(masked_log_softmax(logits)[0])[1]
    exact = sampler.double().logits(logits[:ROWS].double(), exact=True).log_softmax(-1).detach()
    expected = exact.gather(1, order[:ROWS].gather(1, draws.ranks[:ROWS, None])).squeeze(1)
    assert (found[:ROWS] - expected).abs().max() < 1e-3


def test_a_saved_sampler_can_be_a_step_of_a_chain(recorded, tmp_path):
    _, draws = recorded
    sampler = build_sampler("SamplingNetwork", {}, seed=1)
    sampler.save_pretrained(tmp_path / "sampler")
    alone = log_prob_of_draws(pipeline_of([("learned", str(tmp_path / "sampler"))]), draws)
    torch.testing.assert_close(alone, log_prob_of_draws(sampler, draws), atol=1e-5, rtol=0)
    cut = log_prob_of_draws(pipeline_of([("learned", str(tmp_path / "sampler")), ("top_k", 5)]), draws)
    assert cut.isinf().any() and (cut >= alone - 1e-6)[cut.isfinite()].all()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 400), st.integers(1, 30), st.integers(2, 20), st.booleans())
def test_a_point_of_its_own_keeps_counts_probability_and_order(seed, vocabulary, top, tail, rounded):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(5, vocabulary, generator=generator)
    logits = logits.bfloat16().float() if rounded else logits
    tokens = torch.randint(vocabulary, (5,), generator=generator)
    draws = RecordedDraws.from_logits(logits, tokens, top, tail)
    t, n, places = draws.with_own_points()
    assert t.shape == n.shape == (5, top + tail + 2)
    assert (n >= 0).all() and torch.equal(n.sum(-1), draws.sketch.n.double().sum(-1))
    before, after = ((counts * points.exp()).sum(-1) for counts, points in ((draws.sketch.n, draws.sketch.t), (n, t)))
    torch.testing.assert_close(after, before.double(), atol=1e-5, rtol=0)
    left = t.masked_fill(n <= 0, torch.inf)
    for row in range(5):
        assert (left[row][left[row].isfinite()].diff() <= 1e-6).all()
        place = places[row]
        assert n[row, place] == 1 and abs(t[row, place] - logits[row].log_softmax(0)[tokens[row]]) < 1e-5
        assert n[row, :place].sum() == draws.ranks[row]


def test_of_tied_tokens_those_are_kept_that_come_first_by_their_ids():
    """By the log-probability alone, the fourth of four equal tokens is as good as the first."""
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0, -1.0]])
    top_h = pipeline_of([("top_h", 0.6)])
    found = [
        log_prob_of_draws(top_h, RecordedDraws.from_logits(logits, torch.tensor([token]), 3, 2)).isfinite().item()
        for token in range(5)
    ]
    kept = apply_on_support(sort_logits(masked_log_softmax(logits)[0])[0], None, [top_h]).n[0] > 0
    assert found == kept.tolist() and 0 < sum(found) < 4


def test_an_answer_has_the_sum_of_its_steps_and_may_have_a_pipeline_of_its_own(recorded):
    _, draws = recorded
    pipelines = [pipeline_of([("temperature", 0.5 + 0.1 * answer)]) for answer in range(ANSWERS)]
    found = log_prob_of_answers(pipelines, draws)
    for answer, pipeline in enumerate(pipelines):
        alone = log_prob_of_draws(pipeline, draws.answers(answer, answer + 1))
        torch.testing.assert_close(found[answer], alone.sum())
    with pytest.raises(ValueError, match="3 pipelines for 8 answers"):
        log_prob_of_draws(pipelines[:3], draws)


def test_blocks_of_steps_change_nothing(recorded, monkeypatch):
    _, draws = recorded
    pipeline = pipeline_of([("temperature", 0.7), ("min_p", 0.1)])
    expected = log_prob_of_draws(pipeline, draws)
    for size in (1, ROWS, 2 * ROWS + 1):
        monkeypatch.setattr("adaptive_samplers.off_policy.log_probs.STEPS_AT_ONCE", size)
        assert torch.equal(log_prob_of_draws(pipeline, draws), expected)


def test_what_does_not_fit_together_is_refused(recorded):
    sketch, ranks, log_probs = recorded[1].sketch, recorded[1].ranks, recorded[1].log_probs
    with pytest.raises(ValueError, match=r"expected \[N, S\], \[N\] and \[N\]"):
        RecordedDraws(sketch, ranks[1:], log_probs, torch.tensor([0, len(ranks)]))
    with pytest.raises(ValueError, match="follow one another"):
        RecordedDraws(sketch, ranks, log_probs, torch.tensor([0, len(ranks) - 1]))
