"""Quality: a tournament between the answers to each prompt and seed, judged by the configured judge."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from adaptive_samplers.config.model.labels import Tournament
from adaptive_samplers.errors import UserError
from adaptive_samplers.grid import Grid
from adaptive_samplers.labels.judges.base import Judge
from adaptive_samplers.labels.tournament import Tournaments
from adaptive_samplers.tables import KEY, SCHEMAS, read_batches, table_writer, to_arrow

SHOWN_FAILURES = 5
KEPT_REASONS = 20


def label_quality(
    parts: Iterable[pd.DataFrame],
    judge: Judge,
    tournament: Tournament,
    tolerance: float,
    seed: int,
    report: dict[str, Any],
) -> Iterator[pd.DataFrame]:
    """Rate every answer within its (prompt, seed), or within its prompt if `tournament` has `group: prompt`.

    In the latter case `judge` is given the answers as `under_one_seed` gives them.

    Answers with the same text and the same ending are one player and share its rating: no judge can tell them apart.
    Heuristics that draw with the same random numbers often give such answers, and comparisons are expensive.

    Parameters
    ----------
    parts : the candidates, with the columns that the judge reads, in parts that hold all answers to their prompts.
    report : filled after the last part: a summary of the tournaments with what was measured of the judge.

    Yields
    ------
    The `quality` table of each part. An answer that failed takes no part and has null ratings; its reward is null too.

    Raises
    ------
    UserError
        After the last part, if a larger share of judge calls than `tolerance` failed.
    """
    together = tournament.group == "prompt"
    tournaments = Tournaments(**tournament.model_dump(exclude={"group"}), seed=seed)
    equal, reasons, shown = 0, Counter(), []
    for candidates in parts:
        if together:
            candidates = under_one_seed(candidates)
        judge.read(candidates)
        table, equal_here = _rated(candidates, judge, tournaments)
        equal += equal_here
        reasons.update(reason for _, reason in judge.failures)
        shown += judge.failures[: SHOWN_FAILURES - len(shown)]
        del candidates  # before the next part is read
        yield under_own_seeds(table) if together else table
    report |= {**tournaments.summary(), "equal_answers": equal}
    report |= {"failure_reasons": dict(reasons.most_common(KEPT_REASONS)), "judge": judge.measured()}
    share = report["failed"] / max(1, report["calls"])
    if share > tolerance:
        causes = "\n".join(f"  {count} times: {reason}" for reason, count in reasons.most_common(SHOWN_FAILURES))
        first = "\n".join(f"  {what}: {reason}" for what, reason in shown)
        raise UserError(
            f"{report['failed']} of {report['calls']} judge calls failed ({share:.1%}), and labels.quality.tolerance "
            f"allows {tolerance:.1%}. Why, the most frequent causes:\n{causes}\nWhat could not be judged, the first of "
            f"{reasons.total()}:\n{first}\nMend the cause, or raise the tolerance"
        )


def _rated(candidates: pd.DataFrame, judge: Judge, tournaments: Tournaments) -> tuple[pd.DataFrame, int]:
    """The `quality` table of answers that the judge has read, and how many were taken for an equal one."""
    answered = candidates[candidates["finish_reason"] != "error"]
    same = answered.groupby(["prompt_id", "seed", "text", "finish_reason"])["heuristic_id"]
    answered = answered[KEY].assign(player=same.transform("min"))
    groups = {key: group["player"].unique().tolist() for key, group in answered.groupby(["prompt_id", "seed"])}
    ratings = tournaments.play(groups, judge.compare).rename(columns={"heuristic_id": "player"})
    rated = answered.merge(ratings, on=["prompt_id", "player", "seed"], validate="many_to_one")
    # If all answers are the same, their one player meets nobody, but they are known to be equally good.
    met = rated.groupby(["prompt_id", "seed"])["player"]
    rated.loc[(met.transform("nunique") == 1) & (met.transform("size") > 1), ["rating", "rating_stderr"]] = 0.0
    rated["rating"] -= rated.groupby(["prompt_id", "seed"])["rating"].transform("mean")
    table = candidates[KEY].merge(rated.drop(columns="player"), on=KEY, how="left", validate="one_to_one")
    table["comparisons"] = table["comparisons"].fillna(0).astype(np.int32)
    table["reward"] = [judge.rewards.get(key, np.nan) for key in table[KEY].itertuples(index=False, name=None)]
    return table, len(answered) - sum(map(len, groups.values()))


def write_quality(
    parts: Iterable[pd.DataFrame], candidates: Path | str, prompt_ids: Collection[str], output: Path | str
) -> None:
    """Write the `quality` table, which comes in parts of some prompts, in the order of the candidates.

    Parameters
    ----------
    parts : as `label_quality` gives them. 28 bytes an answer are kept of them.
    candidates : the file of the table of that name, of which the rows of `prompt_ids` were rated.

    Raises
    ------
    UserError
        If a file cannot be read, or written.
    """

    def keys() -> Iterator[pa.RecordBatch]:
        return read_batches("candidates", candidates, KEY, only=("prompt_id", prompt_ids))

    heuristic_ids: set[str] = set()
    seeds: set[int] = set()
    for batch in keys():
        heuristic_ids.update(batch["heuristic_id"].unique().to_pylist())
        seeds.update(batch["seed"].unique().to_pylist())
    grid = Grid(prompt_ids, heuristic_ids, seeds)
    fields = [field for field in SCHEMAS["quality"] if field.name not in KEY]
    values = {field.name: np.zeros(len(grid), field.type.to_pandas_dtype()) for field in fields}
    with table_writer("quality", output) as writer:
        for part in parts:
            places = grid.places(part)
            for name, column in values.items():
                column[places] = part[name]
        for batch in keys():
            places = grid.places(batch)
            columns = [pa.array(column[places], from_pandas=True) for column in values.values()]
            table = pa.table([*(batch[name] for name in KEY), *columns], names=[*KEY, *values])
            writer.write_table(to_arrow("quality", table))


def under_one_seed(candidates: pd.DataFrame) -> pd.DataFrame:
    """The same answers as if all had seed 0, so that those to a prompt meet in one tournament.

    Their original seeds are appended to their heuristics' ids.
    """
    ids = candidates["heuristic_id"] + " " + candidates["seed"].astype(str)
    return candidates.assign(heuristic_id=ids, seed=0)


def under_own_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """The inverse of `under_one_seed`."""
    ids = table["heuristic_id"].str.rsplit(" ", n=1, expand=True)
    return table.assign(heuristic_id=ids[0], seed=ids[1].astype(np.int64))
