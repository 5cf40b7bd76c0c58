"""Golden outputs of tournaments with every kind of judge, under every schedule.

The judges that are models are tiny ones; the one behind an endpoint is a formula behind a real server on this machine.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adaptive_samplers.config.model.labels import Tournament
from adaptive_samplers.hashing import content_number
from adaptive_samplers.labels.judges.build import open_judge
from adaptive_samplers.labels.judges.feature_reward import FeatureReward
from adaptive_samplers.labels.judges.features import texts_to_embed
from adaptive_samplers.labels.quality import label_quality
from adaptive_samplers.labels.tournament.play import SCHEDULES
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.tables import write_table
from chat_server import ChatApi, chatting, completion
from golden.inputs import embeddings, language_model, wave
from support import in_whole
from tiny_judges import PROMPTS, judge_config, tiny_answers, write_judge

JUDGES = ("feature_reward", "scalar", "pairwise", "likelihood", "endpoint")
# With none of them 0, the likelihood judge makes every kind of call.
LIKELIHOODS = {"answer": 1.0, "end": 0.5, "unconditional": -0.5, "question": 0.25}
# Low enough for some groups to be settled, and others not.
ADAPTIVE = {"comparisons": 6, "top": 2, "confidence": 0.4}


def answers(tokenizer: ChatTokenizer) -> pd.DataFrame:
    """Answers to two prompts with what generation records of them; some were cut at the token limit."""
    table = tiny_answers()[lambda rows: rows["prompt_id"].isin(["p0", "p1"])].reset_index(drop=True)
    table.loc[2::5, "finish_reason"] = "length"
    table["token_ids"] = [tokenizer.encode_answer(text) for text in table["text"]]
    lengths = table["token_ids"].map(len)
    table["token_logprobs"] = [wave(length, number) - 2 for number, length in enumerate(lengths)]
    table["end_logprobs"] = [wave(length + 1, number / 2) - 4 for number, length in enumerate(lengths)]
    return table


def says(question: str) -> dict[str, Any]:
    """The reply of a model that leans to what is shown first: with probabilities, as a text, or none of the labels."""
    number = content_number(question)
    first = (number % 1000 + 500) / 1600
    if number % 7 == 0:
        return completion("I cannot say")
    if number % 7 == 1:
        return completion("**A**" if first > 0.5 else "B")
    top = {"A": float(np.log(0.9 * first)), " B": float(np.log(0.9 * (1 - first))), "The": -4.0}
    return completion("A", dict(sorted(top.items(), key=lambda entry: -entry[1])))


@contextmanager
def ready(kind: str, folder: Path) -> Iterator[tuple[dict[str, Any], dict[str, Path], pd.DataFrame]]:
    """What a judge's config says beside its kind, the files that the judge reads, and the answers for it."""
    model = language_model(folder)
    tokenizer = ChatTokenizer(model)
    table = answers(tokenizer)
    if kind == "endpoint":
        with chatting(ChatApi(says)) as api:
            yield {"base_url": api.url}, {}, table
    elif kind == "feature_reward":
        FeatureReward(np.array([1.0, 0.5, 0.25, 2.0]), np.zeros(4), np.ones(4)).save(folder / "judge.json")
        vectors = embeddings(texts_to_embed(PROMPTS, table))
        write_table("embeddings", vectors, folder / "embeddings.parquet")
        yield {}, {"judge": folder / "judge.json", "embeddings": folder / "embeddings.parquet", "model": model}, table
    else:
        judge = write_judge(model, folder / "judge", kind, by_name=True)
        yield {"weights": LIKELIHOODS} if kind == "likelihood" else {}, {"judge_model": judge}, table


def golden_tournaments(kind: str, folder: Path) -> list[Any]:
    """The labels and the report under every schedule, of seeds and of prompts, in both orders and in one, corrected."""
    results = []
    with ready(kind, folder) as (changes, inputs, table):
        for group, corrected, schedule in product(("seed", "prompt"), (False, True), SCHEDULES):
            order = {"order": "one" if corrected else "both"} if kind in ("pairwise", "endpoint") else {}
            tournament = Tournament(
                schedule=schedule, regularization=0.1, group=group, correct_position=corrected, adaptive=ADAPTIVE
            )
            config = judge_config(kind, tournament, **changes, **order)
            with open_judge(config, PROMPTS, inputs, folder / "quality", folder / "log") as judge:
                results += in_whole(label_quality, [table], judge, tournament, 1.0, seed=7)
    return results
