"""The heuristics, a function each.

The first argument of a function is the distribution, a `Support`; the others are its parameters, tensors `[R, 1]` with
one value a row; keyword-only ones are what it remembers from token to token. It returns the changed support. The same
function serves full vocabularies and sketches. Where Hugging Face's warpers define a heuristic, this is the same one.
docs/add_a_heuristic.md tells how to add one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from adaptive_samplers.heuristics.registry import Numbers, heuristic

if TYPE_CHECKING:
    from torch import Tensor

    from adaptive_samplers.heuristics.support import Support

POSITIVE = Numbers(above=0)
SHARE = Numbers(at_least=0, at_most=1)
POSITIVE_SHARE = Numbers(above=0, at_most=1)
PROPER_SHARE = Numbers(above=0, below=1)

# A temperature that follows from an entropy may vanish; at this one, only tokens that tie with the best are left.
LOWEST_TEMPERATURE = 1e-6

# Tokens that Top-H looks at, in its authors' code and in Hugging Face's.
TOP_H_TOKENS = 100


@heuristic(temperature=POSITIVE)
def temperature(support: Support, temperature: Tensor) -> Support:
    """Divide the logits by the temperature (Ackley, Hinton and Sejnowski 1985)."""
    return support.divide(temperature)


@heuristic(k=Numbers(at_least=1, whole=True))
def top_k(support: Support, k: Tensor) -> Support:
    """Keep the k most probable tokens and what ties with the last of them (Fan, Lewis and Dauphin 2018)."""
    return support.keep_first(k)


@heuristic(p=POSITIVE_SHARE)
def top_p(support: Support, p: Tensor) -> Support:
    """Keep the fewest most probable tokens whose mass reaches p (nucleus sampling; Holtzman et al. 2020)."""
    return support.keep_mass(p)


@heuristic(p=SHARE)
def min_p(support: Support, p: Tensor) -> Support:
    """Keep tokens with at least p times the largest probability (Nguyen et al. 2024)."""
    return support.keep_relative(p)


@heuristic(mass=PROPER_SHARE)
def typical(support: Support, mass: Tensor) -> Support:
    """Keep the tokens whose information is closest to the entropy, up to a mass (Meister et al. 2023)."""
    return support.keep_nearest(-support.entropy, mass)


@heuristic(epsilon=PROPER_SHARE)
def epsilon(support: Support, epsilon: Tensor) -> Support:
    """Keep tokens with at least the probability epsilon (Hewitt, Manning and Liang 2022)."""
    return support.keep_probable(epsilon)


@heuristic(epsilon=PROPER_SHARE)
def eta(support: Support, epsilon: Tensor) -> Support:
    """Keep tokens above min(epsilon, sqrt(epsilon) exp(-entropy)) (Hewitt, Manning and Liang 2022)."""
    return support.keep_probable(epsilon.minimum(epsilon.sqrt() * (-support.entropy).exp()))


@heuristic(n=POSITIVE)
def top_n_sigma(support: Support, n: Tensor) -> Support:
    """Keep tokens whose logit is within n standard deviations of the largest (Tang et al. 2024, Top-nsigma).

    The standard deviation is that of the logits of all tokens that are left. No temperature changes what is kept.
    """
    return support.keep_above(support.largest - n * support.deviation)


@heuristic(alpha=POSITIVE_SHARE, version=2)
def top_h(support: Support, alpha: Tensor) -> Support:
    """Keep most probable tokens while their sum of -p log p is within alpha times the entropy (Potraghloo et al. 2025).

    This is Top-H as its authors' code and Hugging Face's `TopHLogitsWarper` have it, with which the published results
    were made: of the 100 most probable tokens alone, with p renormalized over them.
    """
    first = support.keep_at_most(TOP_H_TOKENS)
    return first.keep_while(first.information_upto, alpha * first.entropy)


@heuristic(alpha=POSITIVE_SHARE)
def top_h_renormalized(support: Support, alpha: Tensor) -> Support:
    """Keep most probable tokens while their entropy is within alpha times the whole (Top-H's bound as it is stated).

    The entropy of the tokens that are kept is that of their renormalized distribution. It grows more slowly than the
    sum that `top_h` bounds, so that more tokens are kept (Potraghloo et al. 2025).
    """
    mass = support.mass_upto.clamp(min=1e-30)
    entropy = support.information_upto / mass + mass.log()
    return support.keep_while(entropy.clamp(min=0), alpha * support.entropy)


@heuristic()
def p_less(support: Support) -> Support:
    """Keep tokens at least as probable as that two draws agree, sum p^2 (Tan, Wu and Howard 2025, p-less)."""
    return support.keep_probable(support.collision)


@heuristic()
def p_less_norm(support: Support) -> Support:
    """Keep more than `p_less`: from (V sum p^2 - 1) / (V - 1) on, among V tokens (Tan, Wu and Howard 2025)."""
    count = support.count
    return support.keep_probable((count * support.collision - 1) / (count - 1).clamp(min=1))


@heuristic(smoothing_factor=POSITIVE, curve=Numbers(at_least=1, at_most=3))
def quadratic(support: Support, smoothing_factor: Tensor, curve: Tensor) -> Support:
    """Bend the logits: d nats below the largest become factor * ((3 - curve) d^2 + (curve - 1) d^3) / 2 nats below it.

    Known as smooth sampling in text-generation-webui and KoboldCpp (kalomaze 2024). Up to a curve of 3 the order of
    tokens stays.
    """
    largest = support.largest

    def bend(logits: Tensor) -> Tensor:
        below = largest - logits
        return largest - smoothing_factor * below**2 * ((3 - curve) + (curve - 1) * below) / 2

    return support.map(bend)


@heuristic(low=POSITIVE, high=POSITIVE, exponent=POSITIVE)
def dynamic_temperature(support: Support, low: Tensor, high: Tensor, exponent: Tensor) -> Support:
    """Set the temperature between low and high by the normalized entropy to a power (llama.cpp's dynatemp, 2024).

    The entropy is divided by the largest that as many tokens can have. A token that is alone stays as it is.
    """
    share = support.entropy / support.count.log().clamp(min=1e-6)
    return support.divide(low + (high - low) * share.clamp(0, 1) ** exponent)


@heuristic(temperature=POSITIVE, theta=POSITIVE)
def entropy_temperature(support: Support, temperature: Tensor, theta: Tensor) -> Support:
    """Set the temperature to T 0.8^(theta / entropy), the entropy in nats (Zhang, Bao and Huang 2024, EDT).

    It adapts from token to token by the present entropy alone, and so has nothing to remember.
    """
    adapted = temperature * 0.8 ** (theta / support.entropy)
    return support.divide(adapted.clamp(min=LOWEST_TEMPERATURE))


@heuristic(highest=POSITIVE, lowest=POSITIVE, decay=POSITIVE, start={"step": lambda highest, lowest, decay: 0.0})
def annealed_temperature(support: Support, highest: Tensor, lowest: Tensor, decay: Tensor, *, step: Tensor) -> Support:
    """Cool from token to token: max(1 + highest - exp(step / decay), lowest) (Yang et al. 2025, exploratory annealing).

    Steps count from 0, so that the first token is drawn at the highest temperature.
    """
    cooled = (1 + highest - (step / decay).exp()).maximum(lowest)
    return support.divide(cooled)


@annealed_temperature.after_draw
def _count_steps(
    log_prob: Tensor, highest: Tensor, lowest: Tensor, decay: Tensor, *, step: Tensor
) -> dict[str, Tensor]:
    return {"step": step + 1}


@heuristic(tau=POSITIVE, eta=POSITIVE, start={"mu": lambda tau, eta: 2 * tau})
def mirostat(support: Support, tau: Tensor, eta: Tensor, *, mu: Tensor) -> Support:
    """Keep tokens with a surprise of at most mu bits, and steer mu so that what is drawn has tau (Basu et al. 2021).

    This is Mirostat 2.0. mu begins at 2 tau and moves by eta times the excess of each token's surprise over tau.
    """
    return support.keep_probable((-mu).exp2())


@mirostat.after_draw
def _steer(log_prob: Tensor, tau: Tensor, eta: Tensor, *, mu: Tensor) -> dict[str, Tensor]:
    return {"mu": mu - eta * (-log_prob / math.log(2) - tau)}
