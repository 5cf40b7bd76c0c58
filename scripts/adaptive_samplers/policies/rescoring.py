"""Answers of a policy as the base model sees them, for a judge that uses the base model's log-probabilities."""

from pathlib import Path

import pyarrow as pa

from adaptive_samplers.errors import UserError
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.tables import SCHEMAS, read_batches, table_writer

ROWS = 1_000  # read at a time


def rescore(candidates: Path, model: LanguageModel, policy: ChatTokenizer, batch_size: int, output: Path) -> None:
    """Write the `candidates` with the model's log-probabilities; those of failed answers stay null.

    Raises
    ------
    UserError
        If the policy's tokens differ from the model's.
    """
    if policy.tokenizer.get_vocab() != model.tokenizer.get_vocab():
        raise UserError(
            "the policy has other tokens than the base model, whose log-probabilities the judge looks at; take a judge "
            "that is a model (labels.quality.judge)"
        )
    with table_writer("candidates", output) as writer:
        for batch in read_batches("candidates", candidates, rows=ROWS):
            rows = batch.to_pylist()
            usable = [row for row in rows if row["finish_reason"] != "error"]
            pairs = [(row["prompt_token_ids"], row["token_ids"]) for row in usable]
            for row, (tokens, ends) in zip(usable, model.score_answers(pairs, batch_size), strict=True):
                row["token_logprobs"], row["end_logprobs"] = tokens, ends
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMAS["candidates"]))
