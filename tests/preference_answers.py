"""Answers and labels for tests of preference data, small enough to be understood."""

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

WORDS = ["red", "blue", "green", "gold", "grey", "pink", "teal", "plum", "lime", "rust", "sand", "jade"]


def prompts_table(splits: Sequence[str]) -> pd.DataFrame:
    """A verifiable prompt for each entry of `splits`, `p0`, `p1` and so on."""
    return pd.DataFrame(
        {
            "prompt_id": [f"p{i}" for i in range(len(splits))],
            "dataset": "made",
            "kind": "verifiable",
            "messages": [
                json.dumps([{"role": "system", "content": "Be kind."}, {"role": "user", "content": f"Question {i}?"}])
                for i in range(len(splits))
            ],
            "verifier": "exact",
            "ground_truth": '"x"',
            "split": list(splits),
        }
    )


def heuristics_table(count: int) -> pd.DataFrame:
    """Heuristics `h0`, `h1` and so on: of the families `even` and `odd`."""
    return pd.DataFrame(
        {
            "heuristic_id": [f"h{i}" for i in range(count)],
            "name": [f"temperature_{i}" for i in range(count)],
            "family": ["odd" if i % 2 else "even" for i in range(count)],
            "processors": "[]",
        }
    )


def answers_and_labels(
    prompts: int, heuristics: int, seeds: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """`candidates` (what is needed of them), `quality` and `correctness`, with failures, repeated texts and ties."""
    random = np.random.default_rng(seed)
    rows = []
    for prompt in range(prompts):
        for heuristic in range(heuristics):
            for number in range(seeds):
                text = " ".join(random.choice(WORDS, random.integers(1, 4)))
                failed = random.random() < 0.05
                rows.append(
                    {
                        "prompt_id": f"p{prompt}",
                        "heuristic_id": f"h{heuristic}",
                        "seed": number,
                        "text": "" if failed else text,
                        "finish_reason": "error" if failed else random.choice(["stop", "length"]),
                        "rating": np.nan if failed or random.random() < 0.05 else random.integers(-4, 5) / 2,
                        "verdict": np.nan if failed else float(random.integers(0, 2)),
                    }
                )
    table = pd.DataFrame(rows)
    key = ["prompt_id", "heuristic_id", "seed"]
    quality = table[[*key, "rating"]].assign(reward=table["rating"] + 10)
    correctness = table[[*key]].assign(verifier="exact", score=table["verdict"])
    return table[[*key, "text", "finish_reason"]], quality, correctness
