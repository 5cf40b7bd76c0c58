"""The value of several samples of one prompt, and ways to choose among them, as functions on arrays.

- `pass_at_k`, `fit_power_law`: how often at least one of k samples is right;
- `best_of_n`: the sample that a judge prefers;
- `majority_vote`, `adaptive_consistency`: the answer that most samples give, and how many samples it takes.

`measure` applies them to the answers of an evaluation, and `per_sampler` shows the results.
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
