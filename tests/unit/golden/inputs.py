"""What the stages' golden outputs are made from: small tables, and models whose logits are a formula."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.hashing import content_id
from adaptive_samplers.heuristics import expand_heuristics
from adaptive_samplers.models.fetch import fetch_model
from adaptive_samplers.selection import answer_id
from adaptive_samplers.tables import KEY, read_table, write_table
from tiny_model import write_tiny_model

GRID = [
    {"family": "temperature", "temperatures": [0.5, 1.0]},
    {"family": "top_k", "values": [4], "temperatures": [0.7, 1.0]},
    {"family": "top_p", "values": [0.8]},
    {"family": "min_p", "values": [0.2]},
    {"family": "typical", "values": [0.7]},
    {"family": "epsilon", "values": [0.05]},
    {"family": "eta", "values": [0.1]},
]


HEURISTICS = pd.DataFrame(expand_heuristics(Heuristics(grid=GRID, pipelines=[[{"top_k": 6}, {"temperature": 1.3}]])))


FEW = HEURISTICS[:4]


PROMPTS = pd.DataFrame(
    [
        {
            "prompt_id": prompt_id,
            "dataset": "golden",
            "kind": kind,
            "messages": json.dumps([{"role": "user", "content": f"Question {prompt_id}"}]),
            "verifier": verifier,
            "ground_truth": ground_truth,
            "split": split,
        }
        for prompt_id, kind, verifier, ground_truth, split in [
            ("a", "creative", None, None, "train"),
            ("b", "verifiable", "numeric", "5", "validation"),
            ("c", "factual", "regex", '"par(is|ma)"', "test"),
            ("d", "factual", "exact", '["Oslo", "Bergen"]', "test"),
        ]
    ]
)


TEXTS = ["The answer is 5.", "In Paris, I think", "oslo!", "", "Five five five, the answer. The answer is 12"]


WORDS = sorted({piece for text in TEXTS for piece in text.split(" ")})


KEYS = [(p, h, s) for s in (0, 1, 2) for p in PROMPTS["prompt_id"] for h in FEW["heuristic_id"]]


def wave(count: int, phase: float = 0.0) -> np.ndarray:
    """Numbers between -1 and 1 that need no generator."""
    return np.round(np.sin(1.7 * np.arange(count) + phase), 3)


def logits_of(rows: int, vocabulary: int) -> torch.Tensor:
    """Logits of some flat and some peaked distributions."""
    places = np.arange(rows * vocabulary).reshape(rows, vocabulary)
    peakedness = 1 + np.arange(rows)[:, None] % 5
    return torch.from_numpy(peakedness * np.sin(places * 2.3) - 0.01 * (places % vocabulary)).float()


def decode(token_ids) -> str:
    return " ".join(WORDS[token] for token in token_ids)


def candidates() -> pd.DataFrame:
    rows = []
    for number, key in enumerate(KEYS):
        text = TEXTS[(number * 7 + number // 5) % len(TEXTS)]
        token_ids = [WORDS.index(piece) for piece in text.split(" ")] if text else []
        failed = number == 9
        rows.append(
            {
                **dict(zip(KEY, key, strict=True)),
                "prompt_token_ids": [ord(key[0]), 1],
                "token_ids": [] if failed else token_ids,
                "text": "" if failed else text,
                "finish_reason": "error" if failed else "length" if text.endswith("12") else "stop",
                "sample_seed": number,
                "engine": "golden",
                "error": "out of memory" if failed else None,
                "token_logprobs": None if failed else (wave(len(token_ids), number) - 2).tolist(),
                "end_logprobs": None if failed else (wave(len(token_ids) + 1, number / 2) - 4).tolist(),
            }
        )
    return pd.DataFrame(rows)


def embeddings(texts) -> pd.DataFrame:
    vectors = [wave(5, len(text) + 1.0) for text in sorted(texts)]
    return pd.DataFrame(
        {
            "text_id": [content_id(text) for text in sorted(texts)],
            "vector": [vector / np.linalg.norm(vector) for vector in vectors],
        }
    )


def label_tables(keys=KEYS) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    base, count = pd.DataFrame(keys, columns=KEY), len(keys)
    quality = base.assign(rating=2 * wave(count))
    quality.loc[4, "rating"] = np.nan
    diversity = base.assign(
        self_bleu=(wave(count, 1) + 1) / 2, embedding_entropy=1 + wave(count, 2), vendi_score=3 + wave(count, 3)
    )
    score = np.where(base["prompt_id"] == "a", np.nan, np.arange(count) % 3 / 2)
    return quality, diversity, base.assign(score=score)


class FixedModel:
    """A language model whose logits are a formula of the answer."""

    model = SimpleNamespace(dtype=torch.float32)
    tokenizer = SimpleNamespace(decode=decode)
    end_token_ids = (1, 2)

    def refuse(self, *_):
        return None

    def decode(self, token_ids):
        return decode(token_ids)

    def answer_logits(self, pairs, batch_size, done=()):
        for position, (_, answer) in enumerate(pairs):
            yield position, logits_of(len(answer) + 1 + position, 60)[position:]


class FixedWords(FixedModel):
    """The same with as many tokens as there are words."""

    def answer_logits(self, pairs, batch_size, done=()):
        for position, (_, answer) in enumerate(pairs):
            yield position, logits_of(len(answer) + 1 + position, len(WORDS))[position:]


def training_rows(folder: Path) -> pd.DataFrame:
    rows = []
    for number in range(6):
        tokens, reason = [1 + (number + i) % 9 for i in range(3 + number)], ["stop", "length"][number % 2]
        rows.append(
            {
                "prompt_id": PROMPTS["prompt_id"][number % 4],
                "heuristic_id": HEURISTICS["heuristic_id"][number],
                "seed": number // 4,
                "weights": "a0_b1_c0",
                "top_k": 1,
                "rank": 1,
                "score": 0.5,
                "split": ["train", "validation", "test"][number % 3],
                "processors": HEURISTICS["processors"][number],
                "answer_id": answer_id([1], tokens, reason),
                "prompt_token_ids": [1],
                "token_ids": tokens,
                "finish_reason": reason,
            }
        )
    write_table("training_sets", rows, folder / "set.parquet")
    return read_table("training_sets", folder / "set.parquet")


def language_model(folder: Path) -> Path:
    """The folder of a tiny language model, made in `folder`."""
    write_tiny_model(folder / "written", by_name=True)
    fetch_model("tiny", {"kind": "folder", "path": str(folder / "written")}, "CC0-1.0", folder / "model")
    return folder / "model"
