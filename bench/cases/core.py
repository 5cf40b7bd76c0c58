"""Sketches, heuristics, samplers and training against the same on the whole vocabulary."""

from collections.abc import Iterator

import torch

from cases import Case, Measured


def realistic_logits(batch: int, vocabulary: int) -> torch.Tensor:
    """Logits shaped like a language model's: a few likely tokens over a wide bell of unlikely ones."""
    generator = torch.Generator().manual_seed(0)
    bell = torch.randn(batch, vocabulary, generator=generator) * 2.5
    peaks = torch.zeros(batch, vocabulary)
    peaks[:, :64] = torch.linspace(14, 4, 64)
    return bell + peaks


VOCABULARY = 128_256


def cases() -> Iterator[Case]:
    """Sketches, heuristics, samplers and training against the same on the whole vocabulary."""
    yield from decoding_cases()
    yield from drawing_cases()
    yield from training_cases()
    yield from sketch_cases()
    yield from heuristic_cases()


def decoding_cases() -> Iterator[Case]:
    """The output logits of one decode step, by knots and by every token."""
    from adaptive_samplers.samplers import ARCHITECTURES, build_sampler

    for architecture in sorted(ARCHITECTURES):
        sampler = build_sampler(architecture, {}, seed=0).eval()
        for batch in (1, 16):
            logits = realistic_logits(batch, VOCABULARY)
            # One row at a time: at batch 16 the whole vocabulary takes tens of gigabytes at once.
            exact = torch.no_grad()(lambda of=sampler, x=logits: [of.logits(row[None], exact=True) for row in x])
            yield (
                {
                    "name": f"core/forward_{architecture}",
                    "against": "the same network on every token, float32",
                    "batch": batch,
                    "vocabulary": VOCABULARY,
                    "unit": "seconds a decode step",
                },
                exact,
                lambda of=sampler, x=logits: of.logits(x),
            )


def drawing_cases() -> Iterator[Case]:
    """A token drawn through the sampling network, and all its output logits, against plain draws."""
    from adaptive_samplers.samplers import build_sampler

    sampler = build_sampler("SamplingNetwork", {}, seed=0).eval()

    def multinomial(logits: torch.Tensor) -> torch.Tensor:
        return torch.multinomial(torch.softmax(logits, -1), 1)

    def inverse_cdf(logits: torch.Tensor) -> torch.Tensor:
        cumulative = torch.exp(logits - logits.amax(-1, keepdim=True)).cumsum(-1)
        return torch.searchsorted(cumulative, torch.rand(len(logits), 1) * cumulative[:, -1:])

    bars = {
        ("sample", "inverse CDF"): 1.0,
        ("sample", "softmax and multinomial"): 4.0,
        ("logits", "softmax and multinomial"): 2.5,
    }
    for batch in (1, 16):
        logits = realistic_logits(batch, VOCABULARY)
        meta = {"batch": batch, "vocabulary": VOCABULARY, "unit": "seconds a decode step"}
        for ours, work in (("sample", sampler.sample), ("logits", sampler.logits)):
            for against, baseline in (("softmax and multinomial", multinomial), ("inverse CDF", inverse_cdf)):
                yield (
                    {
                        "name": f"core/{ours}_over_{against.replace(' ', '_').lower()}",
                        "against": against,
                        "bar": bars.get((ours, against)),
                        **meta,
                    },
                    lambda baseline=baseline, x=logits: baseline(x),
                    lambda work=work, x=logits: work(x),
                )


def training_cases() -> Iterator[Case]:
    """A token-step of training: target, forward, loss, backward."""
    from adaptive_samplers.heuristics import apply_on_support, parse_processors
    from adaptive_samplers.samplers import build_sampler
    from adaptive_samplers.sketch import DistributionSketch, sorted_log_probs
    from adaptive_samplers.training.objectives.imitation import truncated_logits_loss

    pipeline = parse_processors([{"name": "top_p", "params": {"p": 0.9}}])
    sampler = build_sampler("SamplingNetwork", {}, seed=0)
    batch = 32
    logits = realistic_logits(batch, VOCABULARY)
    sketch = DistributionSketch.from_logits(logits, 128, 128)

    def step(t: torch.Tensor, n: torch.Tensor | None) -> float:
        target = apply_on_support(t, n, [pipeline] * len(t))
        counts = torch.ones_like(t) if n is None else n
        terms = truncated_logits_loss(sampler(t, counts), target.t, counts, target.n, gamma=1.0)
        sampler.zero_grad()
        terms.loss.backward()
        return float(terms.loss.detach())

    one = sorted_log_probs(logits[:1])
    exact, sketched = step(one, None), step(sketch.t[:1], sketch.n[:1])
    yield (
        {
            "name": "core/training_token_step",
            "against": f"the same on every token (the loss differs by {abs(sketched / exact - 1):.1e} of it)",
            "batch": batch,
            "vocabulary": VOCABULARY,
            "unit": "seconds a token-step",
            "divide": (1, batch),
        },
        lambda: step(one, None),
        lambda: step(sketch.t, sketch.n),
    )


def sketch_cases() -> Iterator[Case]:
    """What is stored of a token-step, and statistics read from it."""
    from adaptive_samplers.sketch import DistributionSketch

    batch = 16
    logits = realistic_logits(batch, VOCABULARY)
    sketch = DistributionSketch.from_logits(logits, 256, 256)
    stored = sum(tensor.numel() * tensor.element_size() for tensor in sketch.to_tensors().values()) / batch
    meta = {"batch": batch, "vocabulary": VOCABULARY}
    yield (
        {"name": "core/stored_bytes", "against": "float32 logits", "unit": "bytes a token-step", **meta},
        lambda: Measured(VOCABULARY * 4),
        lambda: Measured(stored),
    )

    def statistics_of_logits() -> None:
        log_probs = logits.log_softmax(-1)
        -(log_probs.exp() * log_probs).sum(-1)
        ordered = log_probs.sort(-1, descending=True).values
        ordered.gather(-1, (ordered.exp().cumsum(-1) < 0.9).sum(-1, keepdim=True))

    yield (
        {"name": "core/entropy_and_quantile", "against": "the same of all logits", "unit": "seconds", **meta},
        statistics_of_logits,
        lambda: (sketch.entropy(), sketch.quantile(0.9)),
    )


def heuristic_cases() -> Iterator[Case]:
    """Heuristics, each row its own, on logits and on sketches, against Hugging Face's warpers."""
    from transformers import LogitsProcessorList, MinPLogitsWarper, TemperatureLogitsWarper, TopPLogitsWarper

    from adaptive_samplers.heuristics import apply_on_support, apply_to_logits, parse_processors
    from adaptive_samplers.sketch import DistributionSketch

    chains = [
        [{"name": "temperature", "params": {"temperature": 0.7}}, {"name": "top_p", "params": {"p": 0.9}}],
        [{"name": "temperature", "params": {"temperature": 1.2}}, {"name": "min_p", "params": {"p": 0.1}}],
    ]
    warpers = [
        LogitsProcessorList([TemperatureLogitsWarper(0.7), TopPLogitsWarper(0.9)]),
        LogitsProcessorList([TemperatureLogitsWarper(1.2), MinPLogitsWarper(0.1)]),
    ]
    logits = realistic_logits(32, 49_152)
    sketch = DistributionSketch.from_logits(logits, 256, 256)
    pipelines = [parse_processors(chains[row % 2]) for row in range(32)]

    def warp() -> list[torch.Tensor]:
        return [warpers[row % 2](None, logits[row : row + 1]) for row in range(32)]

    meta = {
        "against": "Hugging Face's warpers, a call a row",
        "batch": 32,
        "vocabulary": 49_152,
        "unit": "seconds a decode step",
    }
    yield {"name": "core/mixed_heuristics_on_logits", **meta}, warp, lambda: apply_to_logits(logits, pipelines)
    yield (
        {"name": "core/mixed_heuristics_on_sketches", **meta},
        warp,
        lambda: apply_on_support(sketch.t, sketch.n, pipelines),
    )
