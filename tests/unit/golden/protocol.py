"""A declared plan, and families compared by it."""

import numpy as np
import pandas as pd

from adaptive_samplers.compare.planned import compare_planned
from adaptive_samplers.compare.results import results_of_table
from adaptive_samplers.config.model.evaluation import Protocol
from adaptive_samplers.heuristics import learned_heuristic
from adaptive_samplers.protocol import declare
from golden.inputs import FEW

LEARNED = {"SamplingNetwork/a0_b0_c1_top2": "SamplingNetwork imitation"}


def golden_plan(_):
    learned = [learned_heuristic(f"samplers/{name}", None, heat) for name in LEARNED for heat in (0.5, 1.0)]
    heuristics = pd.concat([FEW, pd.DataFrame(learned)])
    prompts = pd.DataFrame({"prompt_id": list("abcdef"), "split": ["train", "validation", "test"] * 2})
    protocol = Protocol(objectives=["quality", "correctness"], tries=1, resamples=100)
    return declare(protocol, prompts, heuristics, LEARNED, [0, 1], {"model": {"dtype": "float32"}})


def golden_families(_):
    generator = np.random.default_rng(3)
    rows = [
        (objective, family, f"{family} {number}", f"{split} {prompt}", seed, split, generator.integers(0, 4) / 4)
        for objective in ("correctness", "embedding_entropy")
        for family in ("learned", "top_p", "min_p", "greedy")
        for number in range(1 if family == "greedy" else 3)
        for split in ("validation", "test")
        for prompt in range(6)
        for seed in (0, 1)
    ]
    columns = ["objective", "family", "configuration", "prompt", "seed", "split", "value"]
    plan = {"plan": "p", "plans": 2, "read_before": False, "claims": ["learned"], "references": ["greedy"], "tries": 2}
    plan["statistics"] = {"resamples": 100, "level": 0.1, "power": 0.8}
    tables, summary = compare_planned(results_of_table(pd.DataFrame(rows, columns=columns)), plan, 5)
    return [*tables.values(), summary]
