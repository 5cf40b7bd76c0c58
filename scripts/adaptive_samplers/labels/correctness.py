"""Correctness of answers, checked by program: the table of the verifiers' verdicts (see `verifiers`)."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.verifiers import Verification
from adaptive_samplers.labels.verifiers.processes import Outcome, Task, VerifierPool
from adaptive_samplers.tables import KEY, SCHEMAS, read_batches, table_writer

_SHOWN_CRASHES = 5


@dataclass
class Tally:
    """The outcome of verifying: by verifier, how many answers it scored, the sum of scores, and its failures."""

    scored: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list)

    def add(self, key: tuple[str, str, int], task: Task, outcome: Outcome) -> None:
        """Count the outcome of an answer's task."""
        if outcome.error is None:
            self.scored[task.name] += 1
            self.points[task.name] += outcome.score
            return
        self.failed[task.name] += 1
        if len(self.shown) < _SHOWN_CRASHES:
            prompt, heuristic, seed = key
            self.shown.append(
                f"  prompt {prompt}, heuristic {heuristic}, seed {seed}, verifier {task.name}: {outcome.error}"
            )

    def table(self) -> str:
        """The counts as text, one line per verifier."""
        names = sorted(self.scored | self.failed)
        if not names:
            return "no prompt has a verifier"
        rows = [(self.scored[name], self.points[name] / max(self.scored[name], 1), self.failed[name]) for name in names]
        return pd.DataFrame(rows, names, ["scored", "mean", "failed"]).to_string()

    def check(self, tolerance: float) -> None:
        """Raise a UserError if more verifiers crashed than the tolerance, a share, allows."""
        crashed, verified = self.failed.total(), self.failed.total() + self.scored.total()
        if not crashed or crashed <= tolerance * verified:
            return
        more = [f"  and {crashed - len(self.shown)} more"] if crashed > len(self.shown) else []
        listing = "\n".join([*self.shown, *more])
        raise UserError(
            f"correctness: the verifier crashed on {crashed} of {verified} answers, more than "
            f"labels.correctness.tolerance ({tolerance:g}) allows:\n{listing}\n"
            "Mend these prompts' ground truth or the verifier, or raise the tolerance."
        )


def label_correctness(
    candidates: Path,
    prompts: pd.DataFrame,
    output: Path,
    tolerance: float,
    verification: Verification,
    processes: int = 1,
) -> Tally:
    """Verify every answer by its prompt's verifier, and write the `correctness` table in the order of the candidates.

    The score is null if the prompt has no verifier, if generation failed (with its error) and if the verifier crashed,
    timed out or is missing (with that as the error). Answers are read, verified and written some at a time.

    Parameters
    ----------
    candidates, output
        The files of the tables `candidates` and `correctness`.
    prompts
        The table of that name; every candidate's prompt must be among them.
    tolerance
        The share (0 to 1) of the answers to verify whose verdict may be missing because the verifier crashed.
    verification
        The user's own verifiers, and the limits of all.
    processes
        Number of parallel processes; the labels do not depend on it.

    Raises
    ------
    UserError
        If more verifiers crashed than `tolerance` allows, a candidate's prompt is unknown, a prompt's verifier is
        unknown or cannot work on this machine, or one of the user's files cannot be loaded.
    """
    verification.require(prompts["verifier"].dropna())
    checks = {
        row.prompt_id: tuple(None if pd.isna(value) else value for value in (row.verifier, row.ground_truth))
        for row in prompts[["prompt_id", "verifier", "ground_truth"]].itertuples(index=False)
    }
    tally = Tally()
    with (
        table_writer("correctness", output) as writer,
        VerifierPool(verification, processes) as pool,
    ):
        for batch in read_batches("candidates", candidates, [*KEY, "text", "finish_reason", "error"]):
            rows = _verified(batch.to_pylist(), checks, pool, tally)
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMAS["correctness"]))
        tally.check(tolerance)
    return tally


def _verified(
    candidates: list[dict[str, Any]], checks: dict[str, tuple[str | None, str | None]], pool: VerifierPool, tally: Tally
) -> list[dict[str, Any]]:
    """The rows of some candidates."""
    rows, tasks = [], []
    for candidate in candidates:
        if candidate["prompt_id"] not in checks:
            raise UserError(
                f"candidates: prompt {candidate['prompt_id']} is not in the prompts table; "
                "rebuild prompts.parquet and the candidates from the same config"
            )
        name, ground_truth = checks[candidate["prompt_id"]]
        row = {key: candidate[key] for key in KEY} | {"verifier": name, "score": None, "detail": None, "error": None}
        rows.append(row)
        if name is None:
            continue
        if candidate["finish_reason"] == "error":
            reason = candidate["error"]
            row["error"] = "generation failed" if reason is None else f"generation failed: {reason}"
        else:
            tasks.append((row, Task(name, ground_truth, candidate["text"])))
    for (row, task), outcome in zip(tasks, pool.outcomes(task for _, task in tasks), strict=True):
        tally.add(tuple(row[key] for key in KEY), task, outcome)
        row |= outcome._asdict()
    return rows
