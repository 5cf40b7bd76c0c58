"""Whether the winners of pairs are more correct according to a verifier, whose verdicts the judge does not know."""

from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from adaptive_samplers.evaluation import bootstrap_mean

RESAMPLES = 2000
CONFIDENCE = 0.95


def agreement(pairs: pd.DataFrame, seed: int, resamples: int = RESAMPLES, confidence: float = CONFIDENCE) -> dict:
    """The share of verifiable pairs whose winner is the more correct one.

    A pair is verifiable if both answers have a verdict and the verdicts differ.

    Parameters
    ----------
    pairs : DataFrame with the columns `prompt_id`, `correctness_chosen` and `correctness_rejected`.
    seed : of the bootstrap.

    Returns
    -------
    dict
        `pairs`; `verifiable`; `agreeing`; `share`, with `low` and `high` of Wilson's interval, as if pairs were
        independent (J. Am. Stat. Assoc. 22, 1927); and `by_prompt`, the mean over prompts of the share, with its
        bootstrap
        interval over prompts, because pairs of one prompt are not independent. Null if no pair is verifiable.
    """
    chosen, rejected = (pairs[f"correctness_{side}"].astype(float) for side in ("chosen", "rejected"))
    verifiable = chosen.notna() & rejected.notna() & (chosen != rejected)
    won = (chosen > rejected)[verifiable]
    means = pd.DataFrame({"prompt_id": pairs["prompt_id"][verifiable], "value": won.astype(float)})
    by_prompt = bootstrap_mean(means, resamples, confidence, seed)._asdict()
    low, high = wilson(int(won.sum()), len(won), confidence)
    return {
        "pairs": len(pairs),
        "verifiable": len(won),
        "agreeing": int(won.sum()),
        "share": float(won.mean()) if len(won) else None,
        "low": low,
        "high": high,
        "confidence": confidence,
        "by_prompt": {name: _plain(value) for name, value in by_prompt.items()},
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value


def wilson(successes: int, trials: int, confidence: float) -> tuple[float, float] | tuple[None, None]:
    """Wilson's score interval of a share; nulls without trials."""
    if not trials:
        return None, None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return max(0.0, middle - half), min(1.0, middle + half)
