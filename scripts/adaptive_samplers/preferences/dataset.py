"""Preference pairs and labels of single answers for a whole run."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import atomic_output, json_line
from adaptive_samplers.hashing import content_id, content_number
from adaptive_samplers.preferences.agreement import agreement
from adaptive_samplers.preferences.answers import REASONS, length_slope, score_column, scored_answers, words_of
from adaptive_samplers.preferences.decontamination import Overlap
from adaptive_samplers.preferences.feedback import binary_labels
from adaptive_samplers.preferences.pair_selection import pair_answers
from adaptive_samplers.preferences.rejection import accepted
from adaptive_samplers.preferences.settings import PreferenceSettings
from adaptive_samplers.tables import KEY, SCHEMAS, table_writer, to_arrow

# Why a group of answers gives no pair.
NO_PAIR = {
    "too_few": "fewer than two of its answers can be used",
    "identical": "all of its answers have the same words",
    "tied": "all of its answers have the same score",
    "unpaired": "no two of its answers may be a pair, for margin, lengths, verdicts or rejection",
    "repeated": "its pairs are those of the same prompt's other seeds",
}
_SILENT = ("too_few", "identical", "tied")  # nothing to compare an answer with
CONTAMINATED = "contaminated"  # the prompt shares words with one of an evaluation
_SIDES = ("chosen", "rejected")
PAIR_COLUMNS = [
    "prompt_id",
    "seed",
    "chosen",
    "rejected",
    *(f"{name}_{side}" for side in _SIDES for name in ("heuristic_id", "seed", "score", "correctness")),
    "margin",
]


class Pairs(NamedTuple):
    """`pairs`, a DataFrame with the columns `PAIR_COLUMNS`; `dropped`, a list of `{prompt_id, seed, reason}`."""

    pairs: pd.DataFrame
    dropped: list[dict[str, Any]]


def preference_pairs(answers: pd.DataFrame, settings: PreferenceSettings, seed: int) -> Pairs:
    """The pairs among some prompts' answers.

    Parameters
    ----------
    answers : DataFrame
        `scored_answers`, with all answers to each prompt; the order of its rows does not matter.
    settings : PreferenceSettings
    seed : the run's seed. Random draws for a group depend only on it and on the group's key.

    Returns
    -------
    Pairs
        In the order of prompts and seeds. `seed` of a pair or of a dropped group is the one under which its answers
        met; None if those of all seeds did. A pair of texts already given under another seed of the prompt, in either
        order and with any white space, is not given again.
    """
    ranked = answers.sort_values(KEY, ignore_index=True)
    usable, reasons = ranked["reason"].isna().to_numpy(), ranked["reason"].to_numpy()
    rows, dropped = [], []
    known: set[tuple[str, frozenset[str]]] = set()
    columns = {name: ranked[name].to_numpy() for name in ["text", "score", "correctness", "length", *KEY]}
    groups = ranked.groupby(settings.group_columns, sort=True).indices
    for key in sorted(groups):
        prompt_id, group_seed = (key[0], int(key[1])) if settings.group == "seed" else (_only(key), None)
        places = groups[key]
        chosen_from = _in_hashed_order(places[usable[places]], columns)
        pairs, reason = _pairs_of_group(chosen_from, columns, settings, (seed, prompt_id, group_seed))
        if reason == "too_few" and (reasons[places] == "duplicate").any():
            reason = "identical"
        new = []
        for better, worse in pairs:
            texts = (prompt_id, frozenset(words_of(columns["text"][place]) for place in (better, worse)))
            if texts not in known:
                known.add(texts)
                new.append(_row(prompt_id, group_seed, better, worse, columns))
        rows += new
        if not new:
            dropped.append({"prompt_id": prompt_id, "seed": group_seed, "reason": reason or "repeated"})
    return Pairs(pd.DataFrame(rows, columns=PAIR_COLUMNS), dropped)


def _only(key: Any) -> Any:
    return key[0] if isinstance(key, tuple) else key


def _in_hashed_order(places: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Indices in an order that favors no heuristic, for answers with the same score."""
    ids = [content_id([columns["prompt_id"][i], columns["heuristic_id"][i], int(columns["seed"][i])]) for i in places]
    return places[np.argsort(ids)]


def _pairs_of_group(
    places: np.ndarray, columns: Mapping[str, np.ndarray], settings: PreferenceSettings, key: tuple
) -> tuple[np.ndarray, str | None]:
    """Indices of better and worse answers, int [pairs, 2], and why there are none."""
    none = np.empty((0, 2), dtype=np.int64)
    if len(places) < 2:
        return none, "too_few"
    scores = columns["score"][places].astype(float)
    verdicts = np.nan_to_num(columns["correctness"][places].astype(float))
    ranking = scores
    if settings.correctness == "first":
        ranking = scores + verdicts * (np.ptp(scores) + 1)
    if np.ptp(ranking) == 0:
        return none, "tied"
    generator = np.random.default_rng(content_number(["preferences", *key]))
    if settings.rejection_beta is not None:
        kept = accepted(ranking, settings.rejection_beta, generator, settings.rejection_samples)
        places, scores, ranking, verdicts = places[kept], scores[kept], ranking[kept], verdicts[kept]
    allowed = np.ones((len(places), len(places)), dtype=bool)
    if settings.length_control == "ratio":
        # An empty answer counts as one character; otherwise its ratio to any other would be infinite.
        lengths = np.maximum(columns["length"][places].astype(float), 1)
        longer = np.maximum(lengths[:, None], lengths[None, :])
        allowed &= longer <= settings.length_ratio * np.minimum(lengths[:, None], lengths[None, :])
    if settings.correctness == "agree":
        allowed &= verdicts[:, None] >= verdicts[None, :]
    pairs = pair_answers(ranking, settings.pairing, settings.margin, allowed, generator, settings.most_pairs)
    return places[pairs], None if len(pairs) else "unpaired"


def _row(
    prompt_id: str, group_seed: int | None, better: int, worse: int, columns: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt_id": prompt_id, "seed": group_seed}
    for side, place in zip(_SIDES, (better, worse), strict=True):
        row |= {
            side: columns["text"][place],
            f"heuristic_id_{side}": columns["heuristic_id"][place],
            f"seed_{side}": int(columns["seed"][place]),
            f"score_{side}": float(columns["score"][place]),
            f"correctness_{side}": float(columns["correctness"][place]),
        }
    return row | {"margin": row["score_chosen"] - row["score_rejected"]}


class Outputs(NamedTuple):
    """Where `make_preferences` writes: two Parquet tables, and JSON lines."""

    pairs: Path
    answers: Path
    dropped: Path


def make_preferences(
    prompts: pd.DataFrame,
    heuristics: pd.DataFrame,
    quality: pd.DataFrame,
    correctness: pd.DataFrame | None,
    candidates: Callable[[], Iterable[pd.DataFrame]],
    contaminated: Mapping[str, Overlap],
    settings: PreferenceSettings,
    seed: int,
    outputs: Outputs,
) -> dict[str, Any]:
    """Write the tables `preference_pairs` and `preference_answers`, and what was dropped.

    Pairs are made for the prompts of every split, so that `agreement` has more of them; only those of the settings'
    splits are written.

    Parameters
    ----------
    prompts : the `prompts` table.
    heuristics : rows of the `heuristics` table whose answers take part.
    quality, correctness : label tables; None if nothing was verified.
    candidates : gives the columns `CANDIDATE_COLUMNS` in parts, each with all answers to its prompts, in the order of
        prompts. It is called once, and once more for each of `length_control: regress` and `threshold_scope: all`.
    contaminated : of `contaminated_prompts`; these prompts are not exported.
    seed : the run's seed.

    Returns
    -------
    dict
        The report: counts of prompts, answers, groups, pairs and labels, and the agreement with verifiers.

    Raises
    ------
    UserError
        If there is no pair to write, or the judge has no such score.
    """
    column = score_column(quality, settings)
    prompts = prompts.set_index("prompt_id")
    exported = set(prompts.index[prompts["split"].isin(settings.splits)]) - contaminated.keys()

    def scored(slope: float) -> Iterator[pd.DataFrame]:
        for part in candidates():
            chosen = part[part["heuristic_id"].isin(heuristics["heuristic_id"])]
            yield scored_answers(chosen, quality, correctness, settings, column, slope)

    slope = length_slope(scored(0.0), settings) if settings.length_control == "regress" else 0.0
    threshold = _threshold(scored(slope), exported, settings)
    names = heuristics.set_index("heuristic_id")["name"]
    dropped = [
        {"prompt_id": prompt_id, "seed": None, "reason": CONTAMINATED, **overlap._asdict()}
        for prompt_id, overlap in sorted(contaminated.items())
        if prompts["split"].get(prompt_id) in settings.splits
    ]
    report: dict[str, Any] = {"score": column, "length_slope": slope, "threshold": threshold}
    checked, counts, labels, lengths = [], Counter(), Counter(), Counter()
    groups_without = Counter()
    with (
        table_writer("preference_pairs", outputs.pairs) as pairs_writer,
        table_writer("preference_answers", outputs.answers) as answers_writer,
    ):
        for answers in scored(slope):
            made = preference_pairs(answers, settings, seed)
            checked.append(made.pairs[["prompt_id", "correctness_chosen", "correctness_rejected"]])
            answers = answers[answers["prompt_id"].isin(exported)]
            pairs = made.pairs[made.pairs["prompt_id"].isin(exported)]
            left_out = [group for group in made.dropped if group["prompt_id"] in exported]
            answers = answers.assign(label=_labels(answers, left_out, threshold, settings))
            counts.update(answers["reason"].fillna("usable"))
            labels.update(answers["label"].dropna())
            lengths.update(chosen=int(pairs["chosen"].str.len().sum()), rejected=int(pairs["rejected"].str.len().sum()))
            groups_without.update(group["reason"] for group in left_out)
            dropped += left_out
            if len(answers):
                answers_writer.write_table(to_arrow("preference_answers", _with_splits(answers, prompts)))
            if len(pairs):
                pairs_writer.write_table(to_arrow("preference_pairs", _with_prompts(pairs, prompts, names)))
        check = pd.concat(checked, ignore_index=True)
        written = check[check["prompt_id"].isin(exported)]
        if written.empty:
            raise UserError(_why_no_pair(exported, groups_without, counts))
    _write_lines(dropped, outputs.dropped)
    groups = {name: groups_without[name] for name in NO_PAIR}
    return report | {
        "prompts": {
            "exported": len(exported),
            "with_pairs": int(written["prompt_id"].nunique()),
            CONTAMINATED: sum(group["reason"] == CONTAMINATED for group in dropped),
        },
        "answers": {name: counts[name] for name in ("usable", *REASONS)},
        "groups_without_pairs": groups,
        "pairs": len(written),
        "labels": {"desirable": labels[True], "undesirable": labels[False]},
        "mean_characters": {side: lengths[side] / len(written) for side in _SIDES},
        "agreement": {
            "independent": settings.correctness == "ignore",
            "exported": agreement(written, seed),
            "every_split": agreement(check, seed),
        },
    }


def _threshold(parts: Iterable[pd.DataFrame], exported: set[str], settings: PreferenceSettings) -> float | None:
    """The number that all scores are compared with; None if each group has its own."""
    if settings.threshold == "fixed":
        return settings.threshold_value
    if settings.threshold_scope == "group":
        return None
    scores = [part["score"][part["reason"].isna() & part["prompt_id"].isin(exported)] for part in parts]
    together = pd.concat(scores)
    return None if together.empty else float(getattr(together, settings.threshold)())


def _labels(
    answers: pd.DataFrame, without_pairs: list[dict], threshold: float | None, settings: PreferenceSettings
) -> pd.Series:
    """True or False for the answers that are labelled, null for others.

    A text that several of a prompt's seeds give, with any white space, is labelled once. A group with one text or one
    score says nothing relative to its own mean or median.
    """
    usable = answers[answers["reason"].isna()]
    if threshold is None:
        groups = usable.groupby(settings.group_columns).ngroup()
        labels = binary_labels(usable["score"], settings.threshold, groups=groups)
        silent = {(group["prompt_id"], group["seed"]) for group in without_pairs if group["reason"] in _SILENT}
        seeds = usable["seed"] if settings.group == "seed" else [None] * len(usable)
        labels = labels[[key not in silent for key in zip(usable["prompt_id"], seeds, strict=True)]]
    else:
        labels = binary_labels(usable["score"], "fixed", threshold)
    labelled = usable.loc[labels.index]
    repeated = labelled.assign(words=labelled["text"].map(words_of)).duplicated(["prompt_id", "words"])
    return labels[~repeated].astype("boolean").reindex(answers.index)


def _with_splits(answers: pd.DataFrame, prompts: pd.DataFrame) -> pd.DataFrame:
    known = prompts[["messages", "split"]].reindex(answers["prompt_id"])
    table = answers.assign(split=known["split"].to_numpy(), prompt=[json.loads(text) for text in known["messages"]])
    return table[SCHEMAS["preference_answers"].names]


def _with_prompts(pairs: pd.DataFrame, prompts: pd.DataFrame, names: pd.Series) -> pd.DataFrame:
    known = prompts[["messages", "dataset", "kind", "split"]].reindex(pairs["prompt_id"])
    table = pairs.assign(
        number=pairs.groupby("prompt_id").cumcount().astype(np.int32),
        prompt=[json.loads(text) for text in known["messages"]],
        **{column: known[column].to_numpy() for column in ("dataset", "kind", "split")},
        **{f"heuristic_{side}": names.reindex(pairs[f"heuristic_id_{side}"]).to_numpy() for side in _SIDES},
    )
    return table.astype({"seed": "Int64"})[SCHEMAS["preference_pairs"].names]


def _why_no_pair(exported: set[str], groups_without: Counter, counts: Counter) -> str:
    if not exported:
        return (
            "preferences.splits: no prompt of these splits is left after decontamination; name others, or look at "
            "preferences.decontamination"
        )
    reasons = "; ".join(f"{count} groups: {NO_PAIR[name]}" for name, count in groups_without.most_common())
    unusable = ", ".join(f"{counts[name]} {name}" for name in ("usable", *REASONS) if counts[name])
    return (
        f"preferences: no pair is left of {len(exported)} prompts ({reasons}; answers: {unusable}). With one answer to "
        "a prompt and seed set preferences.group to prompt; else look at margin, length and rejection"
    )


def _write_lines(rows: Iterable[dict[str, Any]], path: Path) -> None:
    with atomic_output(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json_line(row))
