"""Models that people have: without a chat template, with one that refuses, that overflow, and damaged ones."""

import json
import os
import shutil

import pandas as pd
import pytest
import torch

from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.engines.transformers_engine import TransformersEngine
from adaptive_samplers.errors import ConversationRefused, UserError
from adaptive_samplers.generation import GenerationSettings, generate
from adaptive_samplers.heuristics import expand_heuristics
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.models.fetch import check_model, fetch_model
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.tables import read_table
from tiny_model import CHAT_TEMPLATE, write_tiny_model

NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
HEURISTICS = pd.DataFrame(expand_heuristics(Heuristics(grid=[{"family": "temperature", "temperatures": [0.7, 1.0]}])))
SETTINGS = GenerationSettings(run_seed=5, max_new_tokens={"chat": 6, "creative": 6}, stop=(), dtype="float32")
VERBALIZED = {
    "answers": 2,
    "pipeline": [{"temperature": 1.0}],
    "max_new_tokens": None,
    "template": "{prompt} {answers}",
}
QUESTION = {"role": "user", "content": "Write."}


def prompts_of(*conversations):
    rows = [
        {"prompt_id": f"p{number}", "dataset": "test", "kind": "chat", "messages": json.dumps(messages)}
        | {"verifier": None, "ground_truth": None, "split": "train"}
        for number, messages in enumerate(conversations)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def model(tiny_model_folder):
    """The tiny model, to be changed."""
    return LanguageModel(tiny_model_folder, device="cpu")


def answered(model, prompts, output):
    generate(prompts, HEURISTICS, [0, 1], TransformersEngine(model, 8), "hash", SETTINGS, output)
    return read_table("candidates", output)


def test_without_a_chat_template_nothing_is_asked(model, tmp_path):
    model.tokenizer.chat_template = None
    with pytest.raises(UserError, match=r"model: the model has no chat template, .* `model.source` names"):
        answered(model, prompts_of([QUESTION]), tmp_path / "c.parquet")


def test_conversations_that_a_template_refuses_are_errors_and_the_others_are_answered(model, tmp_path):
    prompts = prompts_of([QUESTION], [{"role": "system", "content": "Be brief."}, QUESTION])
    expected = answered(model, prompts[:1], tmp_path / "plain.parquet")
    model.tokenizer.chat_template = NO_SYSTEM + CHAT_TEMPLATE
    with pytest.raises(ConversationRefused):
        model.encode_chat(json.loads(prompts["messages"][1]))
    found = answered(model, prompts, tmp_path / "c.parquet")
    refused = found[found["prompt_id"] == "p1"]
    assert len(refused) == 4 and (refused["finish_reason"] == "error").all()
    assert refused["error"].str.contains("of the roles system, user .*System role not supported").all()
    others = found[found["prompt_id"] == "p0"].reset_index(drop=True)
    assert others["text"].tolist() == expected["text"].tolist() and (others["finish_reason"] != "error").all()


def test_refused_conversations_of_verbalized_heuristics_are_errors_too(model, tmp_path):
    heuristics = pd.DataFrame(
        expand_heuristics(Heuristics(pipelines=[[{"temperature": 1.0}]], verbalized=[VERBALIZED]))
    )
    model.tokenizer.chat_template = NO_SYSTEM + CHAT_TEMPLATE
    prompts = prompts_of([{"role": "system", "content": "Be brief."}, QUESTION])
    generate(prompts, heuristics, [0], TransformersEngine(model, 8), "hash", SETTINGS, tmp_path / "c.parquet")
    found = read_table("candidates_with_replies", tmp_path / "c.parquet")
    assert len(found) == 2 and found["error"].str.contains("System role not supported").all()


def test_where_logits_overflow_the_answer_is_an_error_and_the_others_go_on(model, tmp_path, monkeypatch):
    prompts = prompts_of([QUESTION], [{"role": "user", "content": "Nobody knew why."}])
    expected = answered(model, prompts, tmp_path / "plain.parquet")
    next_logits, calls = model.next_logits, []

    def overflowing(token_ids, mask, cache):
        logits = next_logits(token_ids, mask, cache)
        calls.append(len(logits))
        if len(calls) == 3:  # as where activations leave float16's range
            logits = logits.clone()
            logits[0, 5] = torch.inf
            logits[-1] = torch.nan
        return logits

    monkeypatch.setattr(model, "next_logits", overflowing)
    found = answered(model, prompts, tmp_path / "c.parquet")
    failed = found["finish_reason"] == "error"
    assert 2 <= failed.sum() < len(found)
    assert found["error"][failed].str.contains("not finite in float32.*set model.dtype to bfloat16 or float32").all()
    assert found["text"][~failed].tolist() == expected["text"][~failed].tolist()


def test_a_damaged_or_missing_file_of_a_model_is_named(tmp_path):
    write_tiny_model(tmp_path / "written")
    fetch_model("tiny", {"kind": "folder", "path": str(tmp_path / "written")}, "CC0-1.0", tmp_path / "model")
    check_model(tmp_path / "model")
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        shutil.copytree(tmp_path / "model", tmp_path / name)
        path = tmp_path / name / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.unlink()  # it is a link to what was fetched
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"{path} is damaged: .* delete {tmp_path / name} and run again"):
            LanguageModel(tmp_path / name, device="cpu")
        os.truncate(path, 10)
        with pytest.raises(UserError, match=f"{path} is damaged"):
            LanguageModel(tmp_path / name, device="cpu")
        path.unlink()
        with pytest.raises(UserError, match=f"{path} is missing"):
            check_model(tmp_path / name)
    # Whoever needs no weights does not read them.
    ChatTokenizer(tmp_path / "model.safetensors")
