"""Seconds that a table of many samplers over logged answers takes, by recorded draws.

    python bench/off_policy.py              1,000 samplers over 3,009 answers of 40 tokens
    python bench/off_policy.py --quick      a tenth of the samplers

The distributions are made up and no two answers share one, except by chance in the first tokens: the worst case.
"""

import argparse
import os
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent / "scripts"))

import numpy as np  # noqa: E402 (after the library's place is known)
import torch  # noqa: E402

from adaptive_samplers.heuristics import Pipeline, apply_to_logits, configured_pipeline  # noqa: E402
from adaptive_samplers.off_policy import RecordedDraws  # noqa: E402
from adaptive_samplers.off_policy.estimates import LoggedAnswers, estimate, log_mixture, weigh  # noqa: E402
from adaptive_samplers.off_policy.log_probs import log_probs_of_beginnings  # noqa: E402

PROMPTS, SEEDS, STEPS, VOCABULARY = 59, 3, 40, 2000
HORIZONS = (8, 16, 32, None)
FAMILIES = {"top_k": 10, "top_p": 0.9, "min_p": 0.1, "typical": 0.9, "epsilon": 0.01, "eta": 0.01}
GRIDS = {
    "min_p": np.linspace(0.01, 0.3, 14).tolist(),
    "top_p": np.linspace(0.5, 0.99, 13).tolist(),
    "top_k": [2, 3, 5, 8, 10, 15, 20, 30, 50, 80, 100, 200, 500],
}


def behaviors() -> list[Pipeline]:
    """The heuristics of the default config."""
    plain = [[{"temperature": heat}] for heat in (0.3, 0.5, 0.7, 1.0)]
    cut = [[{"temperature": heat}, {name: value}] for heat in (0.7, 1.0) for name, value in FAMILIES.items()]
    return [configured_pipeline(steps) for steps in (*plain, *cut, [{"top_k": 50}, {"top_p": 0.95}])]


def logged(pipelines: list[Pipeline]) -> tuple[RecordedDraws, LoggedAnswers]:
    """Answers of all heuristics under all seeds, each step from a distribution of its own."""
    generator = torch.Generator().manual_seed(1)
    parts, per_prompt = [], len(pipelines) * SEEDS
    owners = np.tile(np.repeat(np.arange(len(pipelines)), SEEDS), PROMPTS)
    for _ in range(PROMPTS):
        rows = per_prompt * STEPS
        logits = -1.3 * torch.arange(1.0, VOCABULARY + 1).log() + torch.randn(rows, VOCABULARY, generator=generator)
        chains = [pipeline for pipeline in pipelines for _ in range(SEEDS * STEPS)]
        tokens = torch.multinomial(apply_to_logits(logits, chains).softmax(-1), 1, generator=generator).squeeze(1)
        parts.append(RecordedDraws.from_logits(logits, tokens, 96, 64, list(range(0, rows + 1, STEPS))))
    count = PROMPTS * per_prompt
    rewards = np.random.default_rng(1).random(count)
    prompts, seeds = np.repeat(np.arange(PROMPTS), per_prompt), np.tile(np.arange(SEEDS), count // SEEDS)
    return RecordedDraws.joined(parts), LoggedAnswers(prompts, owners, seeds, rewards, np.arange(count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the samplers")
    heats = np.linspace(0.2, 1.8, 25).tolist()
    heats = heats[::10] if parser.parse_args().quick else heats
    targets = [
        configured_pipeline([{"temperature": heat}, {name: value}])
        for heat in heats
        for name, values in GRIDS.items()
        for value in values
    ]
    pipelines = behaviors()
    draws, answers = logged(pipelines)
    start = time.perf_counter()
    log_probs = log_probs_of_beginnings([*targets, *pipelines], draws, HORIZONS).numpy()
    of_targets, of_behaviors = log_probs[: len(targets)], log_probs[len(targets) :]
    mixture = log_mixture(answers, of_behaviors)
    for at in range(len(HORIZONS)):
        estimate(weigh(answers, of_targets[:, :, at], mixture[:, at]), 2000, 0.9, seed=1)
    seconds = time.perf_counter() - start
    steps = len(draws.log_probs)
    print(
        f"{len(targets)} samplers over {len(answers)} answers of {STEPS} tokens, {len(HORIZONS)} horizons: "
        f"{seconds:.0f} s, {1e6 * seconds / steps / len(targets):.2f} microseconds a step and sampler; "
        f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
