"""Answers with one score each, comparable within a group, and why some cannot be used."""

import difflib
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_id
from adaptive_samplers.preferences.settings import PreferenceSettings
from adaptive_samplers.tables import KEY

CANDIDATE_COLUMNS = [*KEY, "text", "finish_reason"]  # needed from the candidates
# Why an answer cannot be used; if there are several reasons, the first.
REASONS = {
    "failed": "it ended in an error",
    "unrated": "the judge gave it no score",
    "empty": "there is nothing in it but white space",
    "unfinished": "it was cut at the limit of tokens, and preferences.finished_only is true",
    "unverified": "its verifier came to no verdict, and preferences.correctness is not ignore",
    "duplicate": "another answer of its group has the same words",
}


def chosen_heuristics(heuristics: pd.DataFrame, wanted: Sequence[str] | None) -> pd.DataFrame:
    """The rows of the `heuristics` table whose name or family is wanted; None: all.

    Raises
    ------
    UserError
        If a wanted name is neither.
    """
    if wanted is None:
        return heuristics
    known = [*heuristics["name"], *heuristics["family"].unique()]
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(dict.fromkeys(known))}"
            raise UserError(f"preferences.heuristics: '{name}' is neither a heuristic's name nor a family; {hint}")
    return heuristics[heuristics["name"].isin(wanted) | heuristics["family"].isin(wanted)]


def score_column(quality: pd.DataFrame, settings: PreferenceSettings) -> str:
    """The column of the `quality` table that ranks answers, `reward` or `rating`.

    A judge's reward for an answer does not depend on its opponents, so it compares answers to one prompt under all
    seeds. A rating is relative to the answers in the same tournament, where its mean is 0. If each seed has its own
    tournament, it says which answer stood out more among those of its seed, not which is better.

    Raises
    ------
    UserError
        If the judge gave no reward although one is needed.
    """
    has_reward = bool(quality["reward"].notna().any())
    column = settings.score if settings.score != "auto" else "reward" if has_reward else "rating"
    if column == "reward" and not has_reward:
        raise UserError("preferences.score: the judge gave no rewards, it compares answers; set it to rating")
    if column == "rating" and settings.group == "prompt" and settings.rated == "seed":
        raise UserError(
            "preferences.group: the judge's ratings compare answers to the same prompt and seed alone; set it to seed, "
            "or labels.quality.tournament.group to prompt, or take a judge that gives rewards"
        )
    return column


def scored_answers(
    candidates: pd.DataFrame,
    quality: pd.DataFrame,
    correctness: pd.DataFrame | None,
    settings: PreferenceSettings,
    column: str,
    slope: float = 0.0,
) -> pd.DataFrame:
    """A row for each answer, in the order of the key.

    Parameters
    ----------
    candidates : DataFrame
        The columns `CANDIDATE_COLUMNS`, with all answers to each prompt.
    quality : DataFrame
        The key and `column`; rows of other answers are ignored.
    correctness : DataFrame or None
        The key, `verifier` and `score`.
    column : of `score_column`.
    slope : how much the score grows with each character of an answer, which is subtracted; see `length_slope`.

    Returns
    -------
    DataFrame
        The key, `text`, `finish_reason`, `length` (characters), `score`, `correctness` (0 to 1, null where there is
        nothing to verify) and `reason`, one of `REASONS`; null for those that can be used. Of answers in a group whose
        texts differ only in white space, the one with the smallest hash of its key can, with the mean of their scores.
    """
    # Of millions of labels, few belong to these prompts: merging them all would take most of the time.
    prompts = candidates["prompt_id"].unique()
    quality = quality[quality["prompt_id"].isin(prompts)]
    answers = candidates[CANDIDATE_COLUMNS].merge(quality[[*KEY, column]], on=KEY, how="left", validate="one_to_one")
    answers = answers.rename(columns={column: "score"}).astype({"score": float})
    if correctness is None:
        answers["correctness"], answers["verifier"] = np.nan, None
    else:
        verdicts = correctness.loc[correctness["prompt_id"].isin(prompts), [*KEY, "verifier", "score"]].rename(
            columns={"score": "correctness"}
        )
        answers = answers.merge(verdicts, on=KEY, how="left", validate="one_to_one")
    answers = answers.sort_values(KEY, ignore_index=True)
    answers["length"] = answers["text"].str.len().astype(np.int32)
    reasons = {
        "failed": answers["finish_reason"] == "error",
        "unrated": answers["score"].isna(),
        "empty": answers["text"].str.strip() == "",
        "unfinished": (answers["finish_reason"] == "length") & settings.finished_only,
        "unverified": answers["verifier"].notna() & answers["correctness"].isna() & (settings.correctness != "ignore"),
    }
    answers["reason"] = _first_reason(reasons, len(answers))
    answers = _without_duplicates(answers.drop(columns="verifier"), settings.group_columns)
    if slope:
        usable = answers[answers["reason"].isna()]
        middle = usable.groupby(settings.group_columns)["length"].transform("mean")
        answers.loc[usable.index, "score"] -= slope * (usable["length"] - middle)
    return answers


def words_of(text: str) -> str:
    """Equal for texts that differ only in white space, since a pair of them would teach nothing else."""
    return " ".join(text.split())


def _first_reason(reasons: dict[str, pd.Series], count: int) -> pd.Series:
    found = pd.Series([None] * count, dtype=object)
    for name, holds in reversed(reasons.items()):
        found[holds.to_numpy(dtype=bool)] = name
    return found


def _without_duplicates(answers: pd.DataFrame, group: list[str]) -> pd.DataFrame:
    usable = answers[answers["reason"].isna()]
    usable = usable.assign(words=usable["text"].map(words_of))
    repeated = usable[usable.duplicated([*group, "words"], keep=False)]
    if repeated.empty:
        return answers
    ties = pd.Series([content_id(key) for key in repeated[KEY].values.tolist()], index=repeated.index)
    same = [repeated[column] for column in [*group, "words"]]
    kept = ties == ties.groupby(same).transform("min")
    answers.loc[repeated.index, "score"] = repeated["score"].groupby(same).transform("mean")
    answers.loc[repeated.index[~kept], "reason"] = "duplicate"
    return answers


def length_slope(parts: Iterable[pd.DataFrame], settings: PreferenceSettings) -> float:
    """How much an answer's score grows with each of its characters: least squares, with an intercept per group.

    Parameters
    ----------
    parts : iterable of `scored_answers`, each with all answers to its prompts.
    """
    products = squares = 0.0
    for part in parts:
        usable = part[part["reason"].isna()]
        groups = usable.groupby(settings.group_columns)
        length = (usable["length"] - groups["length"].transform("mean")).to_numpy()
        score = (usable["score"] - groups["score"].transform("mean")).to_numpy()
        products += float(length @ score)
        squares += float(length @ length)
    return products / squares if squares else 0.0
