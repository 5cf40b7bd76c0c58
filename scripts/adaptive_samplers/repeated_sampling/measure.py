"""The value of repeated sampling for every heuristic and learned sampler, from the answers of an evaluation.

A prompt's answers under several seeds are its samples. A prompt counts for a sampler only if all its samples are
labelled, so that a curve over the number of samples covers the same prompts at every point.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from adaptive_samplers.errors import UserError
from adaptive_samplers.evaluation import LEARNED, Interval, intervals
from adaptive_samplers.repeated_sampling.best_of_n import best_of_n
from adaptive_samplers.repeated_sampling.coverage import fit_power_law, pass_at_k
from adaptive_samplers.repeated_sampling.stopping import adaptive_consistency
from adaptive_samplers.repeated_sampling.voting import majority_vote
from adaptive_samplers.tables import KEY

ALL, VERIFIABLE, FINAL_ANSWER = "all", "verifiable", "final_answer"
JUDGED = ("best_of_n", "weighted_majority_vote")
LEAST_PROMPTS = 10  # fewer prompts say little about the uncertainty of a power law's parameters
_NO_VOTE, _UNKNOWN = -1, -2


@dataclass(frozen=True)
class Samples:
    """The labels of an evaluation's answers by prompt, sampler and seed `[P, H, S]`.

    Attributes
    ----------
    correct : 1 for a full score, 0 for a lower one; NaN without a verdict or verifier.
    judged : the judge's reward, or its rating if it gives no rewards; NaN if the answer has none. Ratings are relative
        to the answers compared; if those are of one seed, ratings of different seeds are only roughly comparable.
    judged_by : `reward` or `rating`.
    votes : a number for each distinct final answer; -1 if a text gives none, -2 if it is unknown.
    verifiable, votable : which prompts `[P]` have a verifier, and one that knows final answers.
    """

    correct: np.ndarray
    judged: np.ndarray
    judged_by: str
    votes: np.ndarray
    verifiable: np.ndarray
    votable: np.ndarray

    @classmethod
    def from_tables(
        cls,
        correctness: pd.DataFrame,
        quality: pd.DataFrame,
        final_answers: pd.DataFrame,
        heuristics: pd.DataFrame,
        seeds: Sequence[int],
    ) -> "Samples":
        """Collect the labels from the tables of these names, with `seeds` in the order in which they count as drawn.

        Raises
        ------
        UserError
            If a label belongs to a heuristic or seed that is not listed.
        """
        axes = [
            pd.Index(correctness["prompt_id"].unique()),
            pd.Index(heuristics["heuristic_id"]),
            pd.Index(list(seeds)),
        ]

        def dense(name: str, table: pd.DataFrame, values: np.ndarray, missing: float) -> np.ndarray:
            places = [axis.get_indexer(table[key]) for axis, key in zip(axes, KEY, strict=True)]
            for place, key in zip(places, KEY, strict=True):
                if (place < 0).any():
                    value = table[key][place < 0].iloc[0]
                    raise UserError(
                        f"table '{name}': {key} {value} is not of this evaluation; the labels are of another run: "
                        "delete them and run again"
                    )
            array = np.full([len(axis) for axis in axes], missing, dtype=np.asarray(values).dtype)
            array[tuple(places)] = values
            return array

        judged_by = "reward" if quality["reward"].notna().any() else "rating"
        scores = correctness["score"].to_numpy(float)
        texts = final_answers["final_answer"]
        codes = np.where(texts.isna(), _NO_VOTE, pd.factorize(texts)[0])
        codes = np.where(final_answers["error"].notna(), _UNKNOWN, codes)
        return cls(
            correct=dense("correctness", correctness, np.where(np.isnan(scores), np.nan, scores >= 1), np.nan),
            judged=dense("quality", quality, quality[judged_by].to_numpy(float), np.nan),
            judged_by=judged_by,
            votes=dense("final_answers", final_answers, codes, _UNKNOWN),
            verifiable=axes[0].isin(correctness.loc[correctness["verifier"].notna(), "prompt_id"]),
            votable=axes[0].isin(final_answers["prompt_id"]),
        )

    def left_out(self) -> int:
        """Number of pairs of a verifiable prompt and a sampler that do not count, because a sample has no verdict."""
        return int(np.isnan(self.correct[self.verifiable]).any(axis=2).sum())


def sizes(k: Sequence[int], seeds: int) -> list[int]:
    """The numbers of samples to evaluate: those of `k` below the number of seeds, and that number."""
    return sorted({size for size in k if size < seeds} | {seeds})


def measure_repeated_sampling(
    samples: Samples,
    heuristics: pd.DataFrame,
    k: Sequence[int],
    confidence: float,
    criterion: str,
    resamples: int,
    interval_confidence: float,
    seed: int,
) -> pd.DataFrame:
    """Make the table `repeated_sampling`: a row per sampler, method, number of samples, objective and kind of prompts.

    The methods are `pass_at_k` (whether any sample is right, the upper bound for choosing among them), `best_of_n` (the
    sample that the judge prefers), `majority_vote`, `weighted_majority_vote` (weights exp(reward), by which a
    Bradley-Terry judge would choose between two samples) and `adaptive_consistency`, which takes samples in the order
    of the seeds. Means are null if a method lacks its data: votes without final answers, the objective `reward`
    without rewards.

    Parameters
    ----------
    samples : the labelled answers.
    heuristics : the table `heuristics`; learned samplers have the family `learned`.
    k : numbers of samples; those above the number of seeds are left out.
    confidence, criterion : settings of `adaptive_consistency`.
    resamples, interval_confidence, seed : settings of the bootstrap over prompts, which resamples the same prompts for
        every sampler and number of samples. The seed also draws the subsets of weighted votes.
    """
    size = samples.correct.shape[2]
    counts = sizes(k, size)
    values = _values(samples, counts, confidence, criterion, seed)
    rows = []
    for (method, objective, kind), (drawn, by_prompt) in values.items():
        judged_by = samples.judged_by if method in JUDGED else None
        columns = by_prompt.reshape(len(by_prompt), by_prompt.shape[1] * by_prompt.shape[2])
        found = iter(intervals(columns, resamples, interval_confidence, seed))
        methods_counts = [size] if method == "adaptive_consistency" else counts
        for position, system in enumerate(heuristics.itertuples(index=False)):
            for place, n in enumerate(methods_counts):
                used = drawn[:, position][np.isfinite(by_prompt[:, position, place])] if drawn is not None else None
                taken = float(n) if used is None else float(used.mean()) if len(used) else np.nan
                rows.append((*_names(system), method, objective, kind, judged_by, n, taken, *next(found)))
    columns = ["family", "name", "kind", "method", "objective", "prompts", "judged_by", "n", "samples"]
    columns += Interval._fields
    return pd.DataFrame(rows, columns=columns)


def fit_power_laws(samples: Samples, heuristics: pd.DataFrame, k: Sequence[int]) -> pd.DataFrame:
    """Make the table `power_laws`: exp(a k^b) fitted to every sampler's pass@k over the verifiable prompts.

    Standard errors are over prompts. If there are too few prompts or values of k, or nothing to fit, parameters are
    null and the note says why.
    """
    size = samples.correct.shape[2]
    counts = sizes(k, size)
    coverage = _coverage(samples.correct[samples.verifiable], counts)
    rows = []
    for position, system in enumerate(heuristics.itertuples(index=False)):
        values = coverage[:, position][np.isfinite(coverage[:, position]).all(axis=1)]
        law: Sequence[float] = [np.nan] * 6
        note = None
        if len(values) < LEAST_PROMPTS:
            note = f"{len(values)} prompts, fewer than {LEAST_PROMPTS}"
        else:
            try:
                law = fit_power_law(counts, values.mean(axis=0), np.cov(values, rowvar=False) / len(values))
            except ValueError as error:
                note = str(error)
        rows.append((*_names(system), *law, len(counts), len(values), note))
    parameters = ["a", "b", "a_stderr", "b_stderr", "r_squared", "largest_residual"]
    return pd.DataFrame(rows, columns=["family", "name", "kind", *parameters, "points", "n_prompts", "note"])


def _names(system: object) -> tuple[str, str, str]:
    return system.family, system.name, LEARNED if system.family == LEARNED else "heuristic"


def _coverage(correct: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """pass@k `[P, H, K]`, NaN where a sample has no verdict."""
    known = np.isfinite(correct).all(axis=2)
    right = np.where(known, np.nansum(correct, axis=2), 0).astype(int)
    estimated = pass_at_k(correct.shape[2], right[..., None], np.array(counts))
    return np.where(known[..., None], estimated, np.nan)


def _values(
    samples: Samples, counts: Sequence[int], confidence: float, criterion: str, seed: int
) -> dict[tuple[str, str, str], tuple[np.ndarray | None, np.ndarray]]:
    """The samples drawn `[P, H]`, unless n, and the values `[P, H, N]`, by method, objective and kind of prompts."""
    values: dict[tuple[str, str, str], tuple[np.ndarray | None, np.ndarray]] = {}
    for kind, chosen in ((VERIFIABLE, samples.verifiable), (FINAL_ANSWER, samples.votable)):
        correct, judged = samples.correct[chosen], samples.judged[chosen]
        values["pass_at_k", "correctness", kind] = None, _coverage(correct, counts)
        values["best_of_n", "correctness", kind] = None, _best(judged, correct, counts)
    reward = samples.judged if samples.judged_by == "reward" else np.full_like(samples.judged, np.nan)
    values["best_of_n", "reward", ALL] = None, _best(reward, reward, counts)
    votes, judged, correct = (array[samples.votable] for array in (samples.votes, samples.judged, samples.correct))
    shape = (*votes.shape[:2], len(counts))
    plain, weighted = np.full(shape, np.nan), np.full(shape, np.nan)
    adaptive, drawn = np.full((*shape[:2], 1), np.nan), np.full(shape[:2], np.nan)
    for place in np.ndindex(shape[:2]):
        own, right, scores = votes[place].tolist(), correct[place], judged[place]
        if _UNKNOWN in own or not np.isfinite(right).all():
            continue
        answers = [None if vote == _NO_VOTE else vote for vote in own]
        plain[place] = [majority_vote(answers, right, n) for n in counts]
        if np.isfinite(scores).all():
            weights = np.exp(scores - scores.max())
            weighted[place] = [majority_vote(answers, right, n, weights, seed=seed) for n in counts]
        stop = adaptive_consistency(answers, confidence, criterion)
        drawn[place] = stop.samples
        adaptive[place] = majority_vote(answers[: stop.samples], right[: stop.samples], stop.samples)
    values["majority_vote", "correctness", FINAL_ANSWER] = None, plain
    values["weighted_majority_vote", "correctness", FINAL_ANSWER] = None, weighted
    values["adaptive_consistency", "correctness", FINAL_ANSWER] = drawn, adaptive
    return values


def _best(judged: np.ndarray, values: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    best = np.full((*judged.shape[:2], len(counts)), np.nan)
    for prompt in range(len(judged)):  # one at a time, because all pairs of samples are compared
        for place, n in enumerate(counts):
            best[prompt, :, place] = best_of_n(judged[prompt], values[prompt], n)
    return best
