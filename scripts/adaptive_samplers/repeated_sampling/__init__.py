"""The value of many samples of one prompt, and how to choose among them; usable separately, on arrays.

- how often at least one of k samples is right: `pass_at_k`, `fit_power_law`;
- the sample that a judge prefers: `best_of_n`;
- the answer that most samples give: `majority_vote`, and how many samples it takes: `adaptive_consistency`.

`measure` applies all of them to the answers of an evaluation, `per_sampler` shows the results.
"""

from adaptive_samplers.repeated_sampling.best_of_n import best_of_n
from adaptive_samplers.repeated_sampling.coverage import PowerLaw, fit_power_law, pass_at_k
from adaptive_samplers.repeated_sampling.stopping import CRITERIA, Stop, adaptive_consistency, confidence_in_majority
from adaptive_samplers.repeated_sampling.voting import majority_vote

__all__ = [
    "CRITERIA",
    "PowerLaw",
    "Stop",
    "adaptive_consistency",
    "best_of_n",
    "confidence_in_majority",
    "fit_power_law",
    "majority_vote",
    "pass_at_k",
]
