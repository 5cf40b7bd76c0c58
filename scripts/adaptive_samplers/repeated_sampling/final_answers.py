"""Extract the final answer of every answer to a prompt whose verifier knows final answers."""

import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow as pa

from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.verifiers import Verification
from adaptive_samplers.labels.verifiers.processes import Task, VerifierPool
from adaptive_samplers.tables import KEY, SCHEMAS, read_batches, table_writer

_SHOWN_FAILURES = 5


def extract_final_answers(
    candidates: Path,
    prompts: pd.DataFrame,
    output: Path,
    tolerance: float,
    verification: Verification,
    processes: int = 1,
) -> Counter[str]:
    """Write the `final_answers` table, with a row per answer to a prompt whose verifier knows final answers.

    The final answer is null if the text gives none, or if generation or extraction failed, which the error says.
    Failed generations do not count towards `tolerance`; the check of all answers has its own.

    Parameters
    ----------
    candidates, output : files of the tables `candidates` and `final_answers`.
    prompts : the table `prompts`.
    tolerance : share of the generated answers, 0 to 1, whose extraction may fail.
    verification : the user's own verifiers, and the limits of all.
    processes : number of processes that extract in parallel.

    Returns
    -------
    Numbers of answers that `gave` a final answer, gave `none`, `failed` in extraction, or are `missing` because
    generation failed.

    Raises
    ------
    UserError
        If more extractions failed than `tolerance` allows, or a file of the user's verifiers cannot be loaded.
    """
    verifiers = verification.verifiers()
    known = {name for name, verifier in verifiers.items() if verifier.final_answer is not None}
    asked = prompts[prompts["verifier"].isin(known)].set_index("prompt_id")[["verifier", "ground_truth"]]
    counts: Counter[str] = Counter(gave=0, none=0, failed=0, missing=0)
    shown: list[str] = []
    schema = SCHEMAS["final_answers"]
    with (
        table_writer("final_answers", output) as writer,
        VerifierPool(verification, processes) as pool,
    ):
        for batch in read_batches("candidates", candidates, [*KEY, "text", "finish_reason", "error"]):
            rows, tasks = [], []
            for candidate in batch.to_pylist():
                if candidate["prompt_id"] not in asked.index:
                    continue
                row = {key: candidate[key] for key in KEY} | {"final_answer": None, "error": None}
                rows.append(row)
                if candidate["finish_reason"] == "error":
                    row["error"] = f"generation failed: {candidate['error']}"
                else:
                    name, ground_truth = asked.loc[candidate["prompt_id"]]
                    tasks.append((row, Task(name, ground_truth, candidate["text"], "final_answer")))
            for (row, _), outcome in zip(tasks, pool.outcomes(task for _, task in tasks), strict=True):
                row |= {"final_answer": outcome.detail, "error": outcome.error}
                counts["failed" if outcome.error is not None else "none" if outcome.detail is None else "gave"] += 1
                if outcome.error is not None and len(shown) < _SHOWN_FAILURES:
                    shown.append("  " + json.dumps(row))
            counts["missing"] += len(rows) - len(tasks)
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        generated = counts.total() - counts["missing"]
        if counts["failed"] > tolerance * generated:
            raise UserError(
                f"final answers: {counts['failed']} of {generated} are not known, more than "
                f"labels.correctness.tolerance ({tolerance:g}) allows; the first of them:\n" + "\n".join(shown) + "\n"
                "Mend the verifier or the prompts' ground truth, or raise the tolerance."
            )
    return counts
