"""Tiny judges with the tiny model's tokenizer, and answers for them to judge."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from adaptive_samplers.config.model import Config
from adaptive_samplers.config.model.labels import Tournament
from adaptive_samplers.config.typed import typed_config
from adaptive_samplers.models.fetch import fetch_model
from tiny_model import SENTENCES, weights_by_name

TEMPLATE = "{prompt}\n{first_label}: {first_answer}\n{second_label}: {second_answer}\nBetter:"
QUESTIONS = ["Where does the river go after the old mill?", "Who argued?", "Why?"]
PROMPTS = pd.DataFrame(
    {
        "prompt_id": [f"p{place}" for place in range(len(QUESTIONS))],
        "messages": [json.dumps([{"role": "user", "content": question}]) for question in QUESTIONS],
    }
)
WORDS = " ".join(SENTENCES).split()


def tiny_answers(heuristics: int = 5, seeds: int = 2) -> pd.DataFrame:
    """Answers of one to nine words; a failed one, an empty one, and two that are the same."""
    rows = []
    for place, prompt_id in enumerate(PROMPTS["prompt_id"]):
        for heuristic in range(heuristics):
            for seed in range(seeds):
                number = 7 * place + 3 * heuristic + 5 * seed
                text = " ".join(WORDS[number : number + 1 + (number * 5) % 9])
                key = {"prompt_id": prompt_id, "heuristic_id": f"h{heuristic}", "seed": seed}
                rows.append({**key, "text": text, "finish_reason": "stop"})
    table = pd.DataFrame(rows)
    table.loc[1, ["text", "finish_reason"]] = ["", "error"]
    table.loc[4, "text"] = ""
    table.loc[6, "text"] = table.loc[8, "text"]
    return table


def write_judge(tiny_model: Path, folder: Path, kind: str, labels: int = 1, by_name: bool = False) -> Path:
    """The folder of a random judge, fetched as a model of the kind `folder`; a reward model has so many labels."""
    written = folder.with_name(f"{folder.name}_written")
    shutil.copytree(tiny_model, written, ignore=shutil.ignore_patterns("*.safetensors", "generation_config.json"))
    # Larger weights than usual: with those, what stands far from the end would hardly matter.
    config = LlamaConfig.from_pretrained(tiny_model, num_labels=labels, initializer_range=0.3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = (LlamaForSequenceClassification if kind == "scalar" else LlamaForCausalLM)(config)
    if by_name:
        weights_by_name(model)
    model.save_pretrained(written)
    fetch_model(folder.name, {"kind": "folder", "path": str(written)}, "CC0-1.0", folder)
    return folder


def judge_config(kind: str, tournament: Tournament | None = None, **changes: Any) -> Config:
    """The parts of a complete config that a judge reads."""
    judge = {
        "kind": kind,
        "name": "tiny",
        "dtype": "float32",
        "device": "cpu",
        "trust_remote_code": False,
        "max_length": None,
        "batch_size": 4,
        "engine": "transformers",
    }
    if kind == "pairwise":
        judge |= {"template": TEMPLATE, "labels": ["A", "B"], "order": "both"}
    if kind == "likelihood":
        judge |= {"weights": {"answer": 1.0, "end": 0.5, "unconditional": 0.0, "question": 0.0}}
    if kind == "endpoint":
        judge = {
            "kind": kind,
            "name": "tiny",
            "base_url": "http://127.0.0.1:1/v1",
            "model": "test-model",
            "api_key_variable": None,
            "template": TEMPLATE,
            "labels": ["A", "B"],
            "order": "both",
            "top_logprobs": 20,
            "max_tokens": 16,
            "request": {},
            "concurrency": 4,
            "request_timeout": 5.0,
            "requests_per_second": None,
        }
    quality = {"judge": judge | changes, "tournament": (tournament or Tournament()).model_dump()}
    return typed_config({"labels": {"quality": quality}, "model": {"trust_remote_code": False}})
