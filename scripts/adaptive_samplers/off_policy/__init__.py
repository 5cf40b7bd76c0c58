"""What is known of a sampler from answers that others drew: the probability that it gives to each of them.

The language model is the same for all samplers, and a sampler sees nothing but its distributions. So recorded draws, a
sketch of the distribution at each step and the token that was drawn from it, are enough; the model is not asked again.
"""

from adaptive_samplers.off_policy.draws import RecordedDraws
from adaptive_samplers.off_policy.log_probs import log_prob_of_answers, log_prob_of_draws

__all__ = ["RecordedDraws", "log_prob_of_answers", "log_prob_of_draws"]
