"""What it would cost if samplers kept the order of tokens everywhere: KL divergence with and without.

    python bench/order.py               a thousand real distributions; half an hour on one core
    python bench/order.py --steps 200   a quick look

Each architecture learns heuristics, as it is and with its output made to rise with the log-probability (no token is
above one that is more probable), both trained from the same start. Prints KL plus truncated mass on held-out
distributions; writes bench/order.json.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent / "scripts"))

import torch  # noqa: E402 (after the library's place is known)
from accuracy import real_rows  # noqa: E402
from torch import Tensor  # noqa: E402

from adaptive_samplers.files import write_json  # noqa: E402
from adaptive_samplers.heuristics import apply_on_support, configured_pipeline, pipeline_name  # noqa: E402
from adaptive_samplers.samplers import ARCHITECTURES, AdaptiveSampler, build_sampler  # noqa: E402
from adaptive_samplers.sketch import DistributionSketch  # noqa: E402
from adaptive_samplers.training.loss import LossTerms, truncated_logits_loss  # noqa: E402
from adaptive_samplers.training.trainer import TrainingSettings, learning_rate_at, make_optimizer  # noqa: E402

CHAINS = {
    "keeps the order": [[{"temperature": 0.7}, {"top_p": 0.9}], [{"min_p": 0.1}], [{"temperature": 1.5}]],
    "does not": [[{"typical": 0.9}], [{"typical": 0.5}]],
}
LEARNING_RATES = {"SamplingNetwork": 0.003}
Predict = Callable[[Tensor, Tensor], Tensor]


def in_order(sampler: AdaptiveSampler) -> Predict:
    """The sampler's output, lowered to that of every more probable point; support points descend."""
    return lambda t, n: sampler(t, n).cummin(-1).values


def terms_of(predict: Predict, sketch: DistributionSketch, target: tuple[Tensor, Tensor], rows: Tensor) -> LossTerms:
    t, n = sketch.t[rows], sketch.n[rows]
    return truncated_logits_loss(predict(t, n), target[0][rows], n, target[1][rows], gamma=1.0)


def learned(
    architecture: str, wrap: Callable[[AdaptiveSampler], Predict], sketch: DistributionSketch,
    target: tuple[Tensor, Tensor], steps: int,
) -> float:  # fmt: skip
    """The loss on the last fifth of the distributions, after training on the others."""
    rate = LEARNING_RATES.get(architecture, 0.01)
    settings = TrainingSettings(learning_rate=rate, batch_size=64, steps=steps, warmup_steps=steps // 10)
    sampler = build_sampler(architecture, {}, seed=0)
    sampler.lowest_log_prob = float(sketch.t.amin())
    predict, optimizer = wrap(sampler), make_optimizer(sampler, settings)
    split = len(sketch.t) * 4 // 5
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, settings)
        batch = torch.randint(0, split, (settings.batch_size,), generator=generator)
        loss = terms_of(predict, sketch, target, batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(sampler.parameters(), settings.gradient_clip)
        optimizer.step()
    with torch.no_grad():
        return float(terms_of(predict, sketch, target, torch.arange(split, len(sketch.t))).loss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1000, help="distributions")
    parser.add_argument("--steps", type=int, default=1000, help="training steps")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = torch.stack(list(real_rows(arguments.rows)))
    # Neighboring places of a text are alike: held-out ones are of other texts.
    sketch = DistributionSketch.from_logits(rows, 128, 128)
    results = []
    for kind, chains in CHAINS.items():
        for chain in chains:
            pipeline = configured_pipeline(chain)
            support = apply_on_support(sketch.t, sketch.n, [pipeline] * len(rows))
            target = (support.t, support.n)
            for architecture in sorted(ARCHITECTURES):
                losses = [
                    learned(architecture, wrap, sketch, target, arguments.steps) for wrap in (lambda s: s, in_order)
                ]
                result = {"heuristic": pipeline_name(pipeline), "kind": kind, "architecture": architecture}
                results.append({**result, "free": losses[0], "in_order": losses[1], **vars(arguments)})
                print(f"{result['heuristic']:<30} {architecture:<36} {losses[0]:.4f}, in order {losses[1]:.4f}")
                write_json(results, FOLDER / "order.json")


if __name__ == "__main__":
    main()
