"""Sketches, heuristics, samplers and training against the same on the whole vocabulary."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch

from cases import Case, Measured

if TYPE_CHECKING:
    from adaptive_samplers.heuristics import Pipeline


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
    from adaptive_samplers.logits import sorted_log_probs
    from adaptive_samplers.samplers import build_sampler
    from adaptive_samplers.sketch import DistributionSketch
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
    """How a token-step is sketched, what is stored of it, and statistics read from it."""
    from adaptive_samplers import sketch_passes, sketch_passes_portable, sort_passes, sort_passes_portable
    from adaptive_samplers.sketch import DistributionSketch

    batch = 16
    logits = realistic_logits(batch, VOCABULARY)
    for name, compiled, portable, arguments in (
        ("sketch", sketch_passes.sketch_logits, sketch_passes_portable.sketch_logits, (logits, 256, 256)),
        ("sort", sort_passes.sort_descending, sort_passes_portable.sort_descending, (logits,)),
    ):
        yield (
            {
                "name": f"core/{name}",
                "against": "the same in plain PyTorch",
                "unit": "seconds",
                "batch": batch,
                "vocabulary": VOCABULARY,
            },
            partial(portable, *arguments),
            partial(compiled, *arguments),
        )
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


# Pipelines of one step and of two, of every family that Hugging Face has a warper of.
TWO_CHAINS = (
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1.2, "min_p": 0.1},
)
MANY_CHAINS = (
    *TWO_CHAINS,
    {"temperature": 1.2},
    {"top_k": 50, "top_p": 0.95, "temperature": 0.8},
    {"temperature": 0.7, "typical": 0.9},
    {"epsilon": 0.01},
    {"temperature": 0.7, "eta": 0.01},
    {"top_h": 0.4},
)


def pipelines_of(chains: Sequence[dict[str, float]], rows: int) -> "list[Pipeline]":
    """One of the chains for each row, in turn."""
    from adaptive_samplers.heuristics import configured_pipeline

    configured = [configured_pipeline([chain]) for chain in chains]
    return [configured[row % len(configured)] for row in range(rows)]


def heuristic_cases() -> Iterator[Case]:
    """Heuristics, each row its own, on logits and on sketches, against Hugging Face's warpers."""
    from warpers import grouped, row_by_row

    from adaptive_samplers.heuristics import apply_on_support, apply_to_logits
    from adaptive_samplers.sketch import DistributionSketch

    batch = 32
    for vocabulary in (49_152, VOCABULARY):
        logits = realistic_logits(batch, vocabulary)
        meta = {"batch": batch, "vocabulary": vocabulary, "unit": "seconds a decode step"}
        for name, chains in (("mixed_heuristics", TWO_CHAINS), ("many_heuristics", MANY_CHAINS)):
            pipelines = pipelines_of(chains, batch)
            for ending, against, baseline, bar in (
                ("", "Hugging Face's warpers, a call a row", row_by_row(logits, pipelines), 10.0),
                ("_grouped", "Hugging Face's warpers, a call a heuristic", grouped(logits, pipelines), 5.0),
            ):
                yield (
                    {"name": f"core/{name}_on_logits{ending}", "against": against, "bar": bar, **meta},
                    baseline,
                    lambda logits=logits, pipelines=pipelines: apply_to_logits(logits, pipelines),
                )
            if name == "mixed_heuristics" and vocabulary == 49_152:
                sketch = DistributionSketch.from_logits(logits, 256, 256)
                yield (
                    {"name": f"core/{name}_on_sketches", "against": "Hugging Face's warpers, a call a row", **meta},
                    row_by_row(logits, pipelines),
                    lambda sketch=sketch, pipelines=pipelines: apply_on_support(sketch.t, sketch.n, pipelines),
                )
