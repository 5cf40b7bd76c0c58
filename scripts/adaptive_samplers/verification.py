"""Check that every prompt was answered under every heuristic and seed, and collect all answers in one table."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import read_json, write_json
from adaptive_samplers.grid import Grid, first_of_their_place
from adaptive_samplers.stage import say
from adaptive_samplers.tables import KEY, read_batches, table_writer, without_prompts
from adaptive_samplers.verbalized.parsing import UNPARSED

LISTED = 1_000  # rows of each kind that are listed; further ones are only counted


@dataclass
class Rows:
    """Rows of one kind: their number, and the first of them."""

    count: int = 0
    listed: list[dict[str, Any]] = field(default_factory=list)

    def add(self, count: int, first: Callable[[int], Iterable[dict[str, Any]]]) -> None:
        """Add `count` rows, of which `first(n)` gives the first n."""
        self.listed += first(min(count, LISTED - len(self.listed)))
        self.count += count


@dataclass
class Findings:
    """Counts of what the shards contain."""

    grid: Grid
    wanted: np.ndarray | None  # bool, by index in the grid; None if every key is
    seen: np.ndarray  # bool, by index in the grid
    incomplete: np.ndarray  # bool, by prompt
    found: int = 0
    duplicated: Rows = field(default_factory=Rows)
    failed: Rows = field(default_factory=Rows)
    unparsed: Rows = field(default_factory=Rows)
    unparsed_of: Counter = field(default_factory=Counter)  # by heuristic
    found_of: Counter = field(default_factory=Counter)  # rows, by heuristic
    foreign: Rows = field(default_factory=Rows)
    foreign_shards: list[str] = field(default_factory=list)
    finish_reasons: Counter = field(default_factory=Counter)

    @classmethod
    def empty(cls, grid: Grid, wanted: np.ndarray | None = None) -> "Findings":
        """A tally before anything was counted."""
        return cls(grid, wanted, np.zeros(len(grid), dtype=bool), np.zeros(grid.shape[0], dtype=bool))

    @property
    def expected(self) -> int:
        """The number of answers that there should be."""
        return len(self.grid) if self.wanted is None else int(self.wanted.sum())

    def add(self, batch: pa.RecordBatch, path: Path) -> None:
        """Count rows of a shard, which have the key, `finish_reason` and `error`."""
        places = self.grid.places(batch)
        foreign = places < 0 if self.wanted is None else (places < 0) | ~self.wanted[places]
        if foreign.any():
            self._note(self.foreign, batch, foreign, KEY)
            if str(path) not in self.foreign_shards:
                self.foreign_shards.append(str(path))
            batch, places = batch.filter(pa.array(~foreign)), places[~foreign]
        self.found += len(batch)
        self.finish_reasons.update(_counts(batch["finish_reason"]))
        duplicated = ~first_of_their_place(places, self.seen)
        failed = pc.equal(batch["finish_reason"], "error").to_numpy(zero_copy_only=False)
        unparsed = failed & _starts_with(batch["error"], UNPARSED)
        self._note(self.unparsed, batch, unparsed, [*KEY, "error"])
        self.found_of.update(_counts(batch["heuristic_id"]))
        self.unparsed_of.update(_counts(batch["heuristic_id"].filter(pa.array(unparsed))))
        failed &= ~unparsed
        self._note(self.duplicated, batch, duplicated, KEY)
        self._note(self.failed, batch, failed, [*KEY, "error"])
        faulty = places[duplicated | failed]
        self.incomplete[np.unravel_index(faulty, self.grid.shape)[0]] = True

    @staticmethod
    def _note(rows: Rows, batch: pa.RecordBatch, chosen: np.ndarray, columns: list[str]) -> None:
        places = np.flatnonzero(chosen)
        rows.add(len(places), lambda count: batch.select(columns).take(pa.array(places[:count])).to_pylist())

    def missing(self) -> Rows:
        """The keys that were not found, in order."""
        places, rows = np.flatnonzero(self._missing()), Rows()
        rows.add(len(places), lambda count: self.grid.keys(places[:count]).to_dict("records"))
        return rows

    def _missing(self) -> np.ndarray:
        return ~self.seen if self.wanted is None else self.wanted & ~self.seen

    def incomplete_prompts(self) -> list[str]:
        """The ids of prompts with a missing, duplicated or failed answer, sorted."""
        incomplete = self.incomplete | self._missing().reshape(self.grid.shape).any(axis=(1, 2))
        return self.grid.prompt_ids.filter(pa.array(incomplete)).to_pylist()


def verify_candidates(
    shards: Sequence[Path],
    prompts: pd.DataFrame,
    heuristics: pd.DataFrame,
    seeds: Sequence[int],
    tolerance: float,
    output: Path,
    report: Path,
    other_prompts: Set[str] = frozenset(),
    tolerance_key: str = "generation.tolerance",
    allocation: Path | None = None,
) -> None:
    """Check that every (prompt, heuristic, seed) occurs exactly once, and collect the shards into one table.

    A prompt with a missing, duplicated or failed answer is incomplete. If the share of incomplete prompts is within
    `tolerance`, all their rows are dropped. A reply to a request for several answers of which none can be read leaves
    its prompt complete. The shards are read twice, in batches; only one byte per expected answer is kept in memory.

    Parameters
    ----------
    shards, output : files of the shards and of the table `candidates`.
    prompts, heuristics, seeds : tables `prompts` and `heuristics`, and the seeds, whose combinations are expected.
    tolerance : share of prompts, 0 to 1, that may be incomplete.
    report : JSON file, written even if too many prompts are incomplete. It lists all of them and the first `LISTED`
        rows of each kind, with the number of further ones under `unlisted`. Replies that cannot be read are under
        `unparsed`, their shares by heuristic under `unparsed_shares`.
    other_prompts : ids of prompts whose rows are left out, unless they are in `prompts` too.
    tolerance_key : config key of the tolerance, for messages.
    allocation : file of the table `allocation`; if given, exactly its rows are expected.

    Raises
    ------
    UserError
        If a shard cannot be read, more prompts are incomplete than the tolerance allows, or a row belongs to no prompt,
        heuristic and seed of the run.
    """
    passed_over = pa.array(sorted(other_prompts - set(prompts["prompt_id"])), pa.string())
    grid = Grid(prompts["prompt_id"], heuristics["heuristic_id"], seeds)
    tally = Findings.empty(grid, None if allocation is None else allocated_places(allocation, grid))
    for path in shards:
        for batch in read_batches("candidates", path, [*KEY, "finish_reason", "error"]):
            tally.add(without_prompts(batch, passed_over), path)
    if tally.foreign.count:
        raise UserError(
            f"{tally.foreign.count} answers belong to no prompt, heuristic and seed of this run, the first: "
            f"{tally.foreign.listed[0]}; delete the shards {tally.foreign_shards} and run again"
        )
    incomplete = tally.incomplete_prompts()
    share = len(incomplete) / len(prompts)
    kinds = {"missing": tally.missing(), "duplicated": tally.duplicated, "failed": tally.failed}
    counts = ", ".join(f"{rows.count} {kind}" for kind, rows in kinds.items())
    say(f"{tally.found} of {tally.expected} answers; {counts}; {len(incomplete)} of {len(prompts)} prompts incomplete")
    reported = kinds | ({"unparsed": tally.unparsed} if tally.unparsed.count else {})
    unlisted = {kind: rows.count - len(rows.listed) for kind, rows in reported.items()}
    summary = {
        "expected": tally.expected,
        "found": tally.found,
        **{kind: rows.listed for kind, rows in reported.items()},
        "dropped_prompts": incomplete,
        "incomplete_share": share,
        "tolerance": tolerance,
        "finish_reasons": dict(tally.finish_reasons.most_common()),
    }
    if tally.unparsed.count:
        names = heuristics.set_index("heuristic_id")["name"]
        shares = {names[one]: count / tally.found_of[one] for one, count in tally.unparsed_of.most_common()}
        summary["unparsed_shares"] = shares
        say("replies without an answer: " + ", ".join(f"{share:.1%} of {name}" for name, share in shares.items()))
    write_json(summary | ({"unlisted": unlisted} if any(unlisted.values()) else {}), report)
    if share > tolerance:
        for kind, rows in kinds.items():
            for row in rows.listed:
                say(f"{kind}: {row}")
            if unlisted[kind]:
                say(f"{kind}: and {unlisted[kind]} more")
        raise UserError(
            f"{len(incomplete)} of {len(prompts)} prompts are incomplete ({share:.1%}), and {tolerance_key} "
            f"allows {tolerance:.1%}; the rows are listed above. Delete the shards concerned and run again, or raise "
            "the tolerance"
        )
    dropped = pa.concat_arrays([pa.array(incomplete, pa.string()), passed_over])
    with table_writer("candidates", output) as writer:
        for path in shards:
            for batch in read_batches("candidates", path):
                writer.write_batch(without_prompts(batch, dropped))


def dropped_prompts(reports: Iterable[Path | str]) -> set[str]:
    """The ids of dropped prompts, from the reports of `verify_candidates`."""
    return {prompt_id for path in reports for prompt_id in read_json(path)["dropped_prompts"]}


def _counts(values: pa.Array) -> dict[str, int]:
    """The number of occurrences of each value."""
    return {count["values"]: count["counts"] for count in pc.value_counts(values).to_pylist()}


def _starts_with(texts: pa.Array, beginning: str) -> np.ndarray:
    """Which texts have this beginning, bool [N]; nulls do not."""
    return pc.fill_null(pc.starts_with(texts, beginning), False).to_numpy(zero_copy_only=False)


def allocated_places(allocation: Path, grid: Grid) -> np.ndarray:
    """Which keys of a grid have a row in a table `allocation`, bool by index in the grid.

    Raises
    ------
    UserError
        If the table cannot be read, or a row's key is not in the grid.
    """
    wanted = np.zeros(len(grid), dtype=bool)
    for batch in read_batches("allocation", allocation, KEY):
        places = grid.places(batch)
        if (places < 0).any():
            row = batch.take(pa.array(np.flatnonzero(places < 0)[:1])).to_pylist()[0]
            raise UserError(
                f"{allocation}: {row} is no prompt, heuristic and later seed of this run; delete the file and run again"
            )
        wanted[places] = True
    return wanted
