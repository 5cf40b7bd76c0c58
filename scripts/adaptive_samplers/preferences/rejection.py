"""Statistical rejection sampling: answers as if drawn from the policy that is optimal for the reward.

Liu et al., "Statistical Rejection Sampling Improves Preference Optimization" (2023), section 3.3.
"""

import numpy as np


def accepted(scores: np.ndarray, beta: float, generator: np.random.Generator, samples: int | None = None) -> np.ndarray:
    """Which of a group's answers are accepted, each with probability exp((score - largest score) / beta).

    The best answer is always accepted. Without `samples` there is one pass over the answers. Otherwise passes continue
    over those not yet accepted, with their largest score, until `samples` are accepted, as in the paper's algorithm 1.

    Parameters
    ----------
    scores : float [N], N at least 1.
    beta : above 0, in units of the score: near 0 only the best is accepted, far above the spread of scores all are.
    samples : at least 1; None for one pass.

    Returns
    -------
    bool array [N]
    """
    scores = np.asarray(scores, dtype=float)
    chosen = np.zeros(len(scores), dtype=bool)
    wanted = 1 if samples is None else min(samples, len(scores))
    while chosen.sum() < wanted:
        left = np.flatnonzero(~chosen)
        passed = left[generator.random(len(left)) < np.exp((scores[left] - scores[left].max()) / beta)]
        chosen[passed if samples is None else passed[: wanted - chosen.sum()]] = True
    return chosen
