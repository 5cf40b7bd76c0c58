"""The embedded judge: a Bradley-Terry reward model over features of an answer.

It needs no model of its own: the base language model's log-probabilities were recorded during generation, the
embedder's cosine comes from the embeddings that diversity needs anyway, and the rest is read off the text. It learns
their weights from pairs of a written answer and a corrupted one. Which features it has is for the config to say.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import read_json, write_json
from adaptive_samplers.labels.judges.base import Case, Key, RewardJudge
from adaptive_samplers.labels.judges.features import Decode, features_of, texts_judged
from adaptive_samplers.labels.judges.registry import DEFAULT_FEATURES, JUDGE_FEATURES, has_likelihood
from adaptive_samplers.labels.vectors import read_embeddings
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.tables import KEY

FOLDS = 5
# Those of the judge that is named `text` in docs/judges.md, none of them a log-probability.
TEXT_FEATURES = ("relevance", "finished", "distinct_2", "word_variety")
EASY = (
    "This judge learned to tell written answers from corrupted ones, and such pairs are easy: its "
    "accuracy on them says little about answers that are all fluent."
)
COHERENCE = "Take its ratings as a measure of coherence and relevance, not of what people would prefer."
# Both measured on the same 640 answers: 80 prompts, 2 seeds, at most 64 tokens.
LIMITS = (
    f"{EASY} Measured on answers of the 135M language model, two to each of 80 prompts at each temperature, it "
    "preferred temperature 0.3 to 0.7 in 68% of pairs, 0.7 to 1.0 in 78% and 1.0 to 1.3 in 93%. But two of its "
    "features are log-probabilities under that model, and the answer's mean log-probability explained 78% of the "
    "variance of its rewards within prompts (43% without temperature 1.3): that it prefers the colder answer is no "
    "sign that the colder one is better. The log-probability of ending punishes an answer that was cut at the token "
    f"limit, so such an answer is judged only up to its last complete sentence. {COHERENCE}"
)
TEXT_LIMITS = (
    f"{EASY} Measured on answers of the 135M language model, two to each of 80 prompts at each temperature, it "
    "preferred temperature 0.3 to 0.7 in 62% of pairs, 0.7 to 1.0 in 69% and 1.0 to 1.3 in 84%. None of its "
    "features is a log-probability, but what they measure goes with it, because a hot answer strays from the "
    "prompt: the answer's mean log-probability still explained 52% of the variance of its rewards within prompts "
    "(18% without temperature 1.3). It cannot tell whether an answer is right, nor whether its words are in an "
    "order that makes sense: of answers shuffled but for their last word it found 86%, by their relevance alone. It "
    "takes whatever does not end like a sentence, such as a number, a title or a line of code, for unfinished: 13% "
    f"of the answers that ended by themselves. {COHERENCE}"
)


@dataclass(frozen=True)
class FeatureReward:
    """A linear reward of standardized features; P(a beats b) = sigmoid(reward(a) - reward(b)).

    Attributes
    ----------
    weights : array [F], on standardized features.
    means, scales : arrays [F]; a feature x enters as (x - mean) / scale.
    features : their names, from `JUDGE_FEATURES`.
    """

    weights: np.ndarray
    means: np.ndarray
    scales: np.ndarray
    features: tuple[str, ...] = DEFAULT_FEATURES

    def reward(self, features: np.ndarray) -> np.ndarray:
        """Rewards [N] of features [N, F]; nan, a failed call, where a feature is nan or infinite."""
        features = np.asarray(features, dtype=np.float64).reshape(-1, len(self.features))
        features = np.where(np.isfinite(features).all(axis=1, keepdims=True), features, np.nan)
        return ((features - self.means) / self.scales) @ self.weights

    def save(self, path: Path | str) -> None:
        """Write the model as JSON."""
        write_json(
            {
                "kind": "feature_reward",
                "features": list(self.features),
                "weights": self.weights.tolist(),
                "means": self.means.tolist(),
                "scales": self.scales.tolist(),
            },
            path,
        )

    @classmethod
    def load(cls, path: Path | str) -> "FeatureReward":
        """Read a model that `save` wrote.

        Raises
        ------
        UserError
            If the file is missing or holds something else.
        """
        try:
            stored = read_json(path)
            arrays = [np.asarray(stored[name], dtype=np.float64) for name in ("weights", "means", "scales")]
            shapes = {array.shape for array in arrays}
            features = tuple(stored["features"])
            valid = bool(features) and set(features) <= set(JUDGE_FEATURES) and shapes == {(len(features),)}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: cannot be read as a judge ({error}); delete it and run again") from error
        if not valid:
            known = ", ".join(JUDGE_FEATURES)
            raise UserError(
                f"{path}: its features are not some of {known}, with a weight each; delete it and run again"
            )
        return cls(*arrays, features)


def open_feature_reward(case: Case) -> AbstractContextManager[RewardJudge]:
    """The judge that the DAG trained."""
    reward, vectors = FeatureReward.load(case.inputs["judge"]), partial(read_embeddings, case.inputs["embeddings"])
    tokenizer = ChatTokenizer(case.inputs["model"], case.config.model.trust_remote_code)
    return nullcontext(feature_reward_judge(reward, case.prompts, vectors, tokenizer.decode))


def feature_reward_judge(
    reward: FeatureReward, prompts: pd.DataFrame, embeddings: Callable[[set[str]], pd.DataFrame], decode: Decode
) -> RewardJudge:
    """The trained judge; an answer with a non-finite feature cannot be judged.

    Parameters
    ----------
    embeddings : the rows of the embeddings table for some texts.
    """

    def rate(answered: pd.DataFrame) -> tuple[dict[Key, float], dict[Key, str]]:
        asked = prompts[prompts["prompt_id"].isin(answered["prompt_id"])]
        features = features_of(asked, answered, embeddings(texts_judged(asked, answered)), decode, reward.features)
        rewards: dict[Key, float] = {}
        reasons: dict[Key, str] = {}
        keys = answered[KEY].itertuples(index=False, name=None)
        for key, value in zip(keys, reward.reward(features).tolist(), strict=True):
            if math.isfinite(value):
                rewards[key] = value
            else:
                reasons[key] = "a feature is not a finite number"
        return rewards, reasons

    return RewardJudge(rate, {"kind": "feature_reward"})


def train_feature_reward(
    pairs: pd.DataFrame, regularization: float, features: Sequence[str] = DEFAULT_FEATURES
) -> tuple[FeatureReward, dict]:
    """Fit a Bradley-Terry reward model to pairs of a better and a worse answer.

    The likelihood is that of logistic regression without an intercept on differences of standardized
    features, every pair in both directions, so that the model is antisymmetric: P(a beats b) = 1 - P(b beats
    a). `regularization` is the inverse of scikit-learn's `C`, that is the weight of half the squared norm
    against the summed log-loss of both directions. Means and scales come from the answers that a fit sees, in
    cross-validation too.

    Parameters
    ----------
    pairs : `prompt`, `corruption`, and `chosen_*` and `rejected_*` for each of `features`. Pairs with a
        feature that is nan or infinite are left out and counted.
    regularization : above 0.
    features : names from `JUDGE_FEATURES`.

    Returns
    -------
    model : fitted to all pairs.
    report : `pairs`, `left_out`, `prompts`, `folds`; `accuracy` and `accuracy_by_corruption`, cross-validated
        with all pairs of a prompt in one fold; `accuracy_corruption_left_out`, for each corruption by a model
        that saw only the others (null where there are none); `weights`, on standardized features; `limits`.
        Equal rewards count as wrong.

    Raises
    ------
    UserError
        If fewer than two prompts have a usable pair.

    References
    ----------
    Bradley and Terry (1952), Rank Analysis of Incomplete Block Designs.
    """
    names = tuple(features)
    chosen = pairs[[f"chosen_{name}" for name in names]].to_numpy(dtype=np.float64)
    rejected = pairs[[f"rejected_{name}" for name in names]].to_numpy(dtype=np.float64)
    usable = np.isfinite(chosen).all(axis=1) & np.isfinite(rejected).all(axis=1)
    chosen, rejected = chosen[usable], rejected[usable]
    prompts = pairs["prompt"].to_numpy()[usable]
    corruptions = pairs["corruption"].to_numpy()[usable]
    prompt_count = len(set(prompts))
    if prompt_count < 2:
        raise UserError(
            f"labels.quality.judge.pairs: usable pairs of {prompt_count} prompts ({len(pairs)} pairs in all); "
            "at least 2 prompts are needed to train a judge and to test it on others"
        )

    folds = min(FOLDS, prompt_count)
    correct = np.zeros(len(chosen), dtype=bool)
    for train, test in GroupKFold(n_splits=folds).split(chosen, groups=prompts):
        model = _fit(chosen[train], rejected[train], regularization, names)
        correct[test] = _prefers_chosen(model, chosen[test], rejected[test])
    by_corruption, left_out = {}, {}
    for corruption in sorted(set(corruptions)):
        held = corruptions == corruption
        by_corruption[corruption] = float(correct[held].mean())
        left_out[corruption] = None
        if not held.all():
            model = _fit(chosen[~held], rejected[~held], regularization, names)
            left_out[corruption] = float(_prefers_chosen(model, chosen[held], rejected[held]).mean())

    model = _fit(chosen, rejected, regularization, names)
    return model, {
        "pairs": len(chosen),
        "left_out": int((~usable).sum()),
        "prompts": prompt_count,
        "folds": folds,
        "accuracy": float(correct.mean()),
        "accuracy_by_corruption": by_corruption,
        "accuracy_corruption_left_out": left_out,
        "weights": dict(zip(names, model.weights.tolist(), strict=True)),
        "limits": limits_of(names),
    }


def limits_of(features: Sequence[str]) -> str:
    """What a judge with these features can and cannot tell, as far as it was measured."""
    if set(features) == set(DEFAULT_FEATURES):
        return LIMITS
    if set(features) == set(TEXT_FEATURES):
        return TEXT_LIMITS
    parts = [EASY, "This set of features was not measured between temperatures.", COHERENCE]
    if has_likelihood(features):
        parts.insert(
            2,
            "Some of them are log-probabilities under the base model, so what the model finds likely is rated higher.",
        )
    return " ".join(parts)


def _fit(chosen: np.ndarray, rejected: np.ndarray, regularization: float, features: tuple[str, ...]) -> FeatureReward:
    answers = np.concatenate([chosen, rejected])
    means, scales = answers.mean(axis=0), answers.std(axis=0)
    # A feature that never varies carries no information; any scale gives it weight 0.
    scales = np.where(scales > 0, scales, 1.0)
    differences = (chosen - rejected) / scales
    regression = LogisticRegression(fit_intercept=False, C=1 / regularization, tol=1e-8, max_iter=1000)
    regression.fit(np.concatenate([differences, -differences]), np.repeat([1, 0], [len(differences), len(differences)]))
    return FeatureReward(regression.coef_[0], means, scales, features)


def _prefers_chosen(model: FeatureReward, chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    return model.reward(chosen) > model.reward(rejected)
