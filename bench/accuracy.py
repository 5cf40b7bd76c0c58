"""How exact sketches and knots are: against float64 on the whole vocabulary, and against Hugging Face's warpers.

    python bench/accuracy.py              1,000 real and 1,000 synthetic distributions; most of an hour on one core
    python bench/accuracy.py --rows 40    a quick look

Real distributions are the embedded model's (V = 49,152) along the project's prompts, synthetic ones are heavy-tailed,
bell-shaped, flat and peaked (V = 128,256); all at temperatures from 0.3 to 3. Of the synthetic ones, nine in ten are
rounded to bfloat16, as models on GPUs give them. Writes bench/accuracy.json.
"""

import argparse
import copy
import json
import platform
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent / "scripts"))

import torch  # noqa: E402 (after the library's place is known)
from torch import Tensor  # noqa: E402
from warpers import differences  # noqa: E402

from adaptive_samplers.files import write_json  # noqa: E402
from adaptive_samplers.heuristics import (  # noqa: E402
    Processor,
    apply_on_support,
    configured_pipeline,
    pipeline_name,
    sort_logits,
)
from adaptive_samplers.logits import masked_log_softmax  # noqa: E402
from adaptive_samplers.provenance import versions  # noqa: E402
from adaptive_samplers.samplers import AdaptiveSampler, build_sampler  # noqa: E402
from adaptive_samplers.sketch import DistributionSketch  # noqa: E402
from adaptive_samplers.training.objectives.imitation import truncated_logits_loss  # noqa: E402

TEMPERATURES = (0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
SKETCH = (256, 256)
CHAINS = [
    [{"top_k": 10}],
    [{"top_k": 1000}],
    [{"top_p": 0.5}],
    [{"top_p": 0.95}],
    [{"min_p": 0.02}],
    [{"min_p": 0.1}],
    [{"typical": 0.9}],
    [{"epsilon": 3e-4}],
    [{"epsilon": 0.01}],
    [{"eta": 3e-4}],
    [{"eta": 0.01}],
    [{"top_n_sigma": 1.0}],
    [{"top_h": 0.4}],
    [{"p_less": None}],
    [{"temperature": 0.7}, {"top_p": 0.9}],
    [{"top_k": 50}, {"top_p": 0.95}, {"temperature": 0.8}],
    [{"temperature": 1.5}, {"min_p": 0.05}],
]

# Every warper that Hugging Face has, also where its cut hangs on the smallest probabilities.
WARPED = [
    *[("top_k", k) for k in (10, 50, 1000)],
    *[("top_p", p) for p in (0.1, 0.5, 0.9, 0.95, 0.99, 1 - 1e-6, 1 - 1e-12, 1.0)],
    *[("min_p", p) for p in (1e-4, 0.02, 0.1, 1.0)],
    *[("typical", mass) for mass in (0.2, 0.9, 0.95, 1 - 1e-9)],
    *[(name, epsilon) for name in ("epsilon", "eta") for epsilon in (1e-8, 3e-4, 0.01)],
    *[("top_h", alpha) for alpha in (0.1, 0.4, 0.9, 1.0)],
]


def at_temperatures(rows: Iterator[Tensor]) -> Iterator[Tensor]:
    """Each row at the next temperature."""
    for number, row in enumerate(rows):
        yield row / TEMPERATURES[number % len(TEMPERATURES)]


def real_rows(count: int) -> Iterator[Tensor]:
    """Next-token logits of the embedded model at places in the project's prompts, `[V]` each."""
    from embedded_model import load_embedded_model

    model = load_embedded_model()
    lines = (FOLDER.parent / "resources" / "prompts.jsonl").read_text().splitlines()
    texts = [json.loads(line)["prompt"] for line in lines]
    pairs = [
        (model.encode_chat([{"role": "user", "content": "Go on."}]), model.tokenizer(text)["input_ids"])
        for text in texts
    ]
    left = count
    with torch.no_grad():
        for _, logits in model.answer_logits(pairs, 4):
            yield from logits[:left].float().clone()
            left -= len(logits)
            if left <= 0:
                return


def synthetic_rows(count: int, vocabulary: int = 128_256) -> Iterator[Tensor]:
    """Bells with a few likely tokens, Student's t, noisy power laws, nearly flat and nearly certain ones, in turns."""
    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        normal = torch.randn(vocabulary, generator=generator)
        if number % 5 == 0:
            row = 2.5 * normal
            row[:64] += torch.linspace(14, 4, 64)
        elif number % 5 == 1:
            # A t variable is a normal one over the root of a mean of squared ones.
            squares = torch.randn(4, vocabulary, generator=generator).square().mean(0)
            row = 1.5 * normal / squares.sqrt()
        elif number % 5 == 2:
            exponent = 0.7 + torch.rand(1, generator=generator)
            row = 0.3 * normal - exponent * torch.arange(1, vocabulary + 1).log()
        elif number % 5 == 3:
            row = 0.2 * normal
        else:
            row = 2 * normal
            row[number % vocabulary] = row.max() + 8
        yield row


def rounded(rows: Iterator[Tensor]) -> Iterator[Tensor]:
    """Nine rows in ten to bfloat16."""
    for number, row in enumerate(rows):
        yield row if number % 10 == 0 else row.bfloat16().float()


def trained_network(rows: Tensor) -> AdaptiveSampler:
    """A default network after a short training on top-p: sharper than at random, as in use."""
    sketch = DistributionSketch.from_logits(rows, 128, 128)
    pipeline = configured_pipeline([{"top_p": 0.9}])
    target = apply_on_support(sketch.t, sketch.n, [pipeline] * len(rows))
    sampler = build_sampler("SamplingNetwork", {}, seed=0)
    optimizer = torch.optim.AdamW(sampler.parameters(), lr=0.005)
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        batch = torch.randint(0, len(rows), (32,), generator=generator)
        t, n = sketch.t[batch], sketch.n[batch]
        terms = truncated_logits_loss(sampler(t, n), target.t[batch], n, target.n[batch], gamma=1.0)
        optimizer.zero_grad()
        terms.loss.backward()
        torch.nn.utils.clip_grad_norm_(sampler.parameters(), 1.0)
        optimizer.step()
    return sampler.eval()


def exact_logits(precise: AdaptiveSampler, row: Tensor) -> Tensor:
    """A float64 sampler's output on every token of a row `[V]`, `[1, V]`.

    Equal logits get equal output. Where there are few distinct ones, as in bfloat16, each is evaluated once, with the
    number of its tokens.
    """
    values, place, counts = row.double().unique(return_inverse=True, return_counts=True)
    if 4 * len(values) > len(row):
        return precise.logits(row[None].double(), exact=True)
    log_probs = values - torch.logsumexp(values + counts.log(), 0)
    return precise(log_probs[None], counts[None].double())[:, place]


def total_variation(one: Tensor, other: Tensor) -> float:
    return float((one.double().softmax(-1) - other.double().softmax(-1)).abs().sum() / 2)


def summary(values: list[float]) -> dict[str, float]:
    """Median, 99th percentile and largest."""
    ordered = torch.tensor(values, dtype=torch.float64).sort().values
    return {
        "median": float(ordered[len(ordered) // 2]),
        "percentile_99": float(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]),
        "worst": float(ordered[-1]),
        "distributions": len(ordered),
    }


def sampled_from(samplers: dict[str, AdaptiveSampler], rows: list[Tensor]) -> Iterator[dict]:
    """Total variation of the fast path from float64 on every token; of float32 on every token too, on some rows."""
    for name, sampler in samplers.items():
        precise = copy.deepcopy(sampler).double()
        fast, single = [], []
        for number, row in enumerate(rows):
            with torch.no_grad():
                exact = exact_logits(precise, row)
                fast.append(total_variation(sampler.logits(row[None]), exact))
                if number % 20 == 0:
                    single.append(total_variation(sampler.logits(row[None], exact=True), exact))
        yield {"what": "total variation of the knots from float64 on every token", "of": name, **summary(fast)}
        yield {"what": "total variation of float32 on every token from float64", "of": name, **summary(single)}


def kept(rows: list[Tensor]) -> Iterator[dict]:
    """Probability that heuristics keep, on sketches against full logits; and whether the kept sets agree."""
    pipelines = [configured_pipeline(chain) for chain in CHAINS]
    # Kept probability is that of the distribution before the cuts, at the temperature of the chain.
    heats = [configured_pipeline([step for step in chain if "temperature" in step]) for chain in CHAINS]
    errors, exact_cuts, differing = [], torch.zeros(len(CHAINS)), torch.zeros(len(CHAINS))
    for row in rows:
        ordered, _ = sort_logits(masked_log_softmax(row[None])[0])
        sketch = DistributionSketch.from_logits(row[None], *SKETCH)
        counts, masses = [], []
        for t, n in ((ordered, None), (sketch.t, sketch.n)):
            t, n = t.expand(len(CHAINS), -1), None if n is None else n.expand(len(CHAINS), -1)
            left = apply_on_support(t, n, pipelines).n
            masses.append((left * apply_on_support(t, n, heats).probabilities).double().sum(-1))
            counts.append(left)
        errors.append((masses[0] - masses[1]).abs())
        is_exact = counts[0].sum(-1) < SKETCH[0]
        exact_cuts += is_exact
        differing += is_exact & (counts[0][:, : SKETCH[0]] != counts[1][:, : SKETCH[0]]).any(-1)
    for number, pipeline in enumerate(pipelines):
        yield {
            "what": "difference of kept probability, sketch against all logits",
            "of": pipeline_name(pipeline),
            **summary([float(error[number]) for error in errors]),
            "cuts_in_exact_part": int(exact_cuts[number]),
            "of_these_different": int(differing[number]),
        }


def as_warpers(rows: list[Tensor]) -> Iterator[dict]:
    """Tokens that Hugging Face's warpers in float64 keep and we do not, or the other way, but for ties at the cut."""
    for name, value in WARPED:
        step = Processor.configured(name, value)
        parts = [torch.stack(rows[start : start + 20]) for start in range(0, len(rows), 20)]
        found = torch.cat([differences(step, part) for part in parts])
        yield {
            "what": "tokens kept otherwise than by Hugging Face's warper in float64",
            "of": f"{name} {value!r}",
            "tokens": len(found),
            "farthest_from_cut": float(found.max()) if len(found) else 0.0,
            "distributions": len(rows),
        }


def losses(sampler: AdaptiveSampler, rows: list[Tensor]) -> Iterator[dict]:
    """Relative difference of the mean training loss on sketches from that on all tokens."""
    for chain in ([{"temperature": 0.8}, {"top_p": 0.9}], [{"min_p": 0.1}], [{"typical": 0.9}]):
        pipeline = configured_pipeline(chain)
        sums = torch.zeros(2, dtype=torch.float64)
        for row in rows:
            sketch = DistributionSketch.from_logits(row[None], *SKETCH)
            ordered, _ = sort_logits(masked_log_softmax(row[None])[0])
            for place, (t, n) in enumerate(((ordered, None), (sketch.t, sketch.n))):
                target = apply_on_support(t, n, [pipeline])
                counts = torch.ones_like(t) if n is None else n
                with torch.no_grad():
                    terms = truncated_logits_loss(sampler(t, counts), target.t, counts, target.n, gamma=1.0)
                sums[place] += terms.loss.double()
        yield {
            "what": "relative difference of the mean loss, sketch against all tokens",
            "of": pipeline_name(pipeline),
            "relative": float((sums[1] / sums[0] - 1).abs()),
            "loss": float(sums[0] / len(rows)),
            "distributions": len(rows),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1000, help="distributions of each kind")
    parser.add_argument("--kinds", nargs="+", choices=["real", "synthetic"], default=["real", "synthetic"])
    names = ["samplers", "losses", "sketches", "warpers"]
    parser.add_argument("--parts", nargs="+", choices=names, default=names, help="what to measure")
    arguments = parser.parse_args()
    count = arguments.rows
    torch.set_num_threads(1)
    results = []
    real = list(at_temperatures(real_rows(count)))

    @cache
    def network() -> AdaptiveSampler:
        return trained_network(torch.stack(real[: max(32, count // 4)]))

    def samplers() -> dict[str, AdaptiveSampler]:
        names = ("SimpleDistributionAwareTransform", "LocalProbabilityTransform")
        return {
            "SamplingNetwork, trained": network(),
            **{name: build_sampler(name, {}, seed=1).eval() for name in names},
        }

    kinds = {"real": lambda: real, "synthetic": lambda: list(rounded(at_temperatures(synthetic_rows(count))))}
    for kind in arguments.kinds:
        rows = kinds[kind]()
        meta = {
            "kind": kind,
            "vocabulary": len(rows[0]),
            "hardware": platform.machine(),
            "versions": versions("torch", "transformers", "numpy", "numba"),
        }
        parts = {
            "samplers": lambda rows=rows: sampled_from(samplers(), rows),
            "losses": lambda rows=rows: losses(network(), rows[:: max(1, len(rows) // 100)]),
            "sketches": lambda rows=rows: kept(rows),
            "warpers": lambda rows=rows: as_warpers(rows),
        }
        for part in (parts[name]() for name in arguments.parts):
            for result in part:
                results.append({**result, **meta})
                numbers = {key: value for key, value in result.items() if isinstance(value, (int, float))}
                shown = ", ".join(f"{key} {value:.2g}" for key, value in numbers.items())
                print(f"{kind:<10} {result['what']}: {result['of']}: {shown}", flush=True)
                write_json(results, FOLDER / "accuracy.json")


if __name__ == "__main__":
    main()
