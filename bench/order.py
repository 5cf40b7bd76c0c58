"""What it would cost if samplers kept the order of tokens everywhere: KL divergence with and without.

    python bench/order.py               a thousand real distributions; half an hour on one core
    python bench/order.py --steps 200   a quick look

Each architecture learns heuristics, as it is and with its output made to rise with the log-probability (no token is
above one that is more probable), both trained from the same start. Prints KL plus truncated mass on held-out
distributions, and the least that any function of theirs could have, one for each distribution; writes bench/order.json.
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

from adaptive_samplers.config.model.training import Training  # noqa: E402
from adaptive_samplers.files import write_json  # noqa: E402
from adaptive_samplers.heuristics import apply_on_support, configured_pipeline, pipeline_name  # noqa: E402
from adaptive_samplers.samplers import ARCHITECTURES, build_sampler  # noqa: E402
from adaptive_samplers.sketch import DistributionSketch  # noqa: E402
from adaptive_samplers.training.objectives.imitation import LossTerms, truncated_logits_loss  # noqa: E402
from adaptive_samplers.training.trainer import TrainingSettings, learning_rate_at, make_optimizer  # noqa: E402

CHAINS = {
    "keeps the order": [[{"temperature": 0.7}, {"top_p": 0.9}], [{"min_p": 0.1}], [{"temperature": 1.5}]],
    "does not": [[{"typical": 0.9}], [{"typical": 0.5}]],
}
Predict = Callable[[Tensor, Tensor], Tensor]
Wrap = Callable[[Tensor], Tensor]
Target = tuple[Tensor, Tensor]


def in_order(output: Tensor) -> Tensor:
    """Output lowered to that of every more probable point; support points descend."""
    return output.cummin(-1).values


def as_it_is(output: Tensor) -> Tensor:
    return output


def terms_of(predict: Predict, sketch: DistributionSketch, target: Target, rows: Tensor) -> LossTerms:
    t, n = sketch.t[rows], sketch.n[rows]
    return truncated_logits_loss(predict(t, n), target[0][rows], n, target[1][rows], gamma=1.0)


def learned(architecture: str, wrap: Wrap, sketch: DistributionSketch, target: Target, steps: int) -> float:
    """The loss on the last fifth of the distributions, after training on the others."""
    rate = ARCHITECTURES[architecture].learning_rate
    length = {"batch_size": 64, "steps": steps, "warmup_steps": steps // 10}
    settings = TrainingSettings.from_config(Training(), seed=0, learning_rate=rate, **length)
    sampler = build_sampler(architecture, {}, seed=0)
    sampler.lowest_log_prob = float(sketch.t.amin())
    optimizer, split = make_optimizer(sampler, settings), len(sketch.t) * 4 // 5

    def predict(t: Tensor, n: Tensor) -> Tensor:
        return wrap(sampler(t, n))

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


def least(wrap: Wrap, sketch: DistributionSketch, target: Target, steps: int = 1500) -> float:
    """The loss on the last fifth of the distributions of the best outputs, sought for each point by itself."""
    held_out = torch.arange(len(sketch.t) * 4 // 5, len(sketch.t))
    t, logits = sketch.t[held_out], target[0][held_out]
    start = torch.where(logits.isfinite(), logits, t - 15)
    # From below, for what is lowered to others has no gradient.
    output = (start.flip(-1).cummax(-1).values.flip(-1) if wrap is in_order else start).clone().requires_grad_()
    optimizer = torch.optim.Adam([output], lr=0.05)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / steps)
        loss = terms_of(lambda t, n: wrap(output), sketch, target, held_out).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


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
            target: Target = (support.t, support.n)
            for name in ["any function", *sorted(ARCHITECTURES)]:
                found = [
                    least(wrap, sketch, target)
                    if name == "any function"
                    else learned(name, wrap, sketch, target, arguments.steps)
                    for wrap in (as_it_is, in_order)
                ]
                result = {"heuristic": pipeline_name(pipeline), "kind": kind, "learned_by": name}
                results.append({**result, "free": found[0], "in_order": found[1], **vars(arguments)})
                print(f"{result['heuristic']:<30} {name:<36} {found[0]:.4f}, in order {found[1]:.4f}")
                write_json(results, FOLDER / "order.json")


if __name__ == "__main__":
    main()
