"""Slices of prompts, samples of policies as a table and in the formats of others, and adapters merged into models."""

import hashlib
import importlib.util
import json
import re
import sys
from datetime import datetime
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import parse
from transformers import AutoModelForCausalLM, AutoTokenizer

from adaptive_samplers.config.model.policies import Policy
from adaptive_samplers.config.model.sources import BaseModelSettings
from adaptive_samplers.errors import UserError
from adaptive_samplers.files import read_json
from adaptive_samplers.models.fetch import fetch_model
from adaptive_samplers.policies import formats as policy_formats
from adaptive_samplers.policies.formats import instructions, write_formats
from adaptive_samplers.policies.prompt_slices import slice_prompts
from adaptive_samplers.policies.samples import gather_policy_samples, sampling_heuristics
from adaptive_samplers.policies.sources import policy_source
from adaptive_samplers.tables import SCHEMAS, read_table, write_table
from tiny_model import write_tiny_adapter

GENERATION = {"max_new_tokens": {"creative": 7, "factual": 5}, "stop": ["\n"], "sampling": [{"top_p": 0.9}]}
TURNS = [{"role": role, "content": role[0]} for role in ("user", "assistant", "user")]
PROMPTS = pd.DataFrame(
    [
        ("a", "poems", "creative", [{"role": "user", "content": "Write «a»,\nthen 😀."}], None, None, "test"),
        ("b", "facts/1", "factual", [{"role": "user", "content": "Where?"}], "exact", '["Oslo", "Bergen"]', "test"),
        ("c", "facts.1", "factual", [{"role": "system", "content": "Be."}, TURNS[0]], "regex", '"me"', "test"),
        ("d", "facts/1", "factual", TURNS, None, None, "test"),
    ],
    columns=["prompt_id", "dataset", "kind", "messages", "verifier", "ground_truth", "split"],
)
PROMPTS["messages"] = [json.dumps(messages, ensure_ascii=False) for messages in PROMPTS["messages"]]
TEXTS = {
    ("a", 0): 'He said: "ä"\n',
    ("a", 1): "",
    ("b", 0): "Oslo",
    ("b", 1): "\u2028Rome",
    ("c", 0): "me",
    ("c", 1): "I",
}
TEXTS |= {("d", 0): "[", ("d", 1): "null"}


@pytest.fixture
def candidates(tmp_path):
    """Answers as they lie in shards: by seed, then by prompt."""
    rows = [
        {
            "prompt_id": prompt_id,
            "heuristic_id": "h",
            "seed": seed,
            "prompt_token_ids": [1, 2],
            "token_ids": list(range(len(text))),
            "text": text,
            "finish_reason": "stop",
            "sample_seed": 2**64 - 1 - seed,
            "engine": "none",
            "error": None,
            "token_logprobs": [-0.5] * len(text),
            "end_logprobs": [-1.0] * (len(text) + 1),
        }
        for (prompt_id, seed), text in sorted(TEXTS.items(), key=lambda item: (item[0][1], item[0][0]))
    ]
    write_table("candidates", rows, tmp_path / "candidates.parquet")
    return tmp_path / "candidates.parquet"


@pytest.fixture
def formats(candidates, tmp_path):
    gather_policy_samples(candidates, PROMPTS, "mine", tmp_path / "samples.parquet")
    write_formats(tmp_path / "samples.parquet", PROMPTS, GENERATION, tmp_path / "formats")
    return tmp_path / "formats"


@given(
    count=st.integers(1, 30),
    size=st.integers(1, 12),
    splits=st.lists(st.sampled_from(["train", "validation", "test"]), min_size=1, max_size=3, unique=True),
)
def test_slices_that_follow_one_another_hold_every_prompt_once(count, size, splits):
    rows = [{"prompt_id": f"{i * 7 % 31:02}", "split": ("train", "validation", "test")[i % 3]} for i in range(count)]
    table = pd.DataFrame(rows)
    wanted = sorted(row["prompt_id"] for row in rows if row["split"] in splits)
    found = []
    for skip in range(0, len(wanted), size):
        part = slice_prompts(table, splits, skip, size)
        assert len(part) == min(size, len(wanted) - skip)
        found += part["prompt_id"].tolist()
    assert found == wanted
    with pytest.raises(UserError, match=f"of {count} prompts {len(wanted)} are in the splits"):
        slice_prompts(table, splits, len(wanted), None)


def test_samples_stand_by_prompt_with_what_they_answer(formats, tmp_path):
    table = read_table("policy_samples", tmp_path / "samples.parquet")
    assert table[["prompt_id", "sample_id"]].apply(tuple, axis=1).tolist() == sorted(TEXTS)
    assert table["text"].tolist() == [TEXTS[key] for key in sorted(TEXTS)]
    assert table["sample_seed"].tolist() == [2**64 - 1, 2**64 - 2] * 4
    assert table["messages"].tolist() == PROMPTS["messages"].repeat(2).tolist()
    assert set(table["policy"]) == {"mine"} and list(table) == SCHEMAS["policy_samples"].names


def test_json_lines_name_everything_once(formats):
    lines = [json.loads(line) for line in (formats / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [((line["prompt_id"], line["sample_id"]), line["output"]) for line in lines] == sorted(TEXTS.items())
    assert lines[0]["prompt"] == json.loads(PROMPTS["messages"][0]) and lines[0]["type"] == "sample"
    assert lines[4]["instruction"] == "u"
    assert lines[6]["instruction"] == "user: u\n\nassistant: a\n\nuser: u"


def read_as_halos_does(path: Path, split: str) -> dict[tuple[str, int], str]:
    """What its get_sampled_data makes of a file: one JSON list, of which it takes one split."""
    found = {}
    for sample in json.loads(path.read_text(encoding="utf-8")):
        assert sample["type"] == "sample" and sample["dataset"] in set(PROMPTS["dataset"])
        assert all({"role", "content"} <= set(turn) for turn in sample["prompt"])
        if sample["split"] == split:
            found[sample["prompt_id"], sample["sample_id"]] = sample["output"]
    return found


def test_halos_reads_samples_by_its_two_splits(formats, tmp_path):
    prompts = PROMPTS.assign(split=["train", "validation", "test", "train"])
    write_formats(tmp_path / "samples.parquet", prompts, GENERATION, tmp_path / "split")
    for split, ids in (("train", "ad"), ("test", "bc")):
        expected = {key: text for key, text in TEXTS.items() if key[0] in ids}
        assert read_as_halos_does(tmp_path / "split" / "halos.json", split) == expected


def test_prompts_that_differ_by_their_system_message_alone_have_different_instructions():
    system = [{"role": "system", "content": words} for words in ("Be brief.", "Be long.")]
    question, other = ({"role": "user", "content": words} for words in ("Why?", "How?"))
    conversations = [[system[0], question], [system[1], question], [question], [system[0], other]]
    found = instructions([json.dumps(messages) for messages in conversations])
    assert found == ["system: Be brief.\n\nuser: Why?", "system: Be long.\n\nuser: Why?", "Why?", "How?"]


def test_what_alpaca_eval_loads_is_what_was_sampled(formats, monkeypatch):
    # Version 0.6.6 imports a module that setuptools has no more, for the comparison of two versions.
    stand_in = ModuleType("pkg_resources")
    stand_in.parse_version = parse
    monkeypatch.setitem(sys.modules, "pkg_resources", stand_in)
    from alpaca_eval import utils

    for number in range(2):
        table = utils.load_or_convert_to_dataframe(formats / "alpaca_eval" / f"sample_{number}.json")
        assert list(table) == ["instruction", "output", "generator", "dataset"]
        assert table["instruction"].tolist() == instructions(PROMPTS["messages"])
        assert table["output"].tolist() == [TEXTS[prompt_id, number] for prompt_id in "abcd"]
        assert table["dataset"].tolist() == PROMPTS["dataset"].tolist()
        assert utils.get_generator_name(None, table) == "mine"
    assert len(list((formats / "alpaca_eval").iterdir())) == 2


def test_more_samples_than_files_may_be_open_at_once(formats, tmp_path, monkeypatch):
    monkeypatch.setattr(policy_formats, "FILES_AT_A_TIME", 1)
    write_formats(tmp_path / "samples.parquet", PROMPTS, GENERATION, tmp_path / "one_by_one")
    for path in (formats / "alpaca_eval").iterdir():
        assert (tmp_path / "one_by_one" / "alpaca_eval" / path.name).read_bytes() == path.read_bytes()


def sample_logs(formats) -> dict[str, Path]:
    """The files for lm-evaluation-harness by task."""
    names = re.compile(r"samples_(\w+)_1970-01-01T00-00-00\.000000\.jsonl")
    return {names.fullmatch(path.name)[1]: path for path in (formats / "lm_eval").iterdir()}


def test_samples_of_tasks_are_laid_out_as_lm_evaluation_harness_logs_them(formats):
    files = sample_logs(formats)
    assert len(files) == 3 and {"poems", "facts_1"} < set(files)
    first, second = map(json.loads, files["facts_1"].read_text(encoding="utf-8").splitlines())
    assert (first["doc_id"], second["doc_id"]) == (0, 1)
    assert first["doc"]["prompt_id"] == "b" and first["target"] == '["Oslo", "Bergen"]' and second["target"] == ""
    assert first["resps"] == [["Oslo", "\u2028Rome"]] and first["filtered_resps"] == ["Oslo"]
    options = {"until": ["\n"], "max_gen_toks": 5, "do_sample": True, "sampling": [{"top_p": 0.9}]}
    assert first["arguments"] == {"gen_args_0": {"arg_0": PROMPTS["messages"][1], "arg_1": options}}
    assert first["target_hash"] == hashlib.sha256(b'["Oslo", "Bergen"]').hexdigest()
    (other,) = set(files) - {"poems", "facts_1"}
    (regex,) = map(json.loads, files[other].read_text(encoding="utf-8").splitlines())
    assert other.startswith("facts_1_") and regex["target"] == "me"


def test_lm_evaluation_harness_finds_the_samples_of_each_task(formats):
    if importlib.util.find_spec("lm_eval") is None:
        pytest.skip("lm_eval is not installed: make test installs it (tests/readers.txt)")
    from lm_eval.result_schema import SampleResult
    from lm_eval.utils import get_file_datetime, get_file_task_name, get_sample_results_filenames, sanitize_task_name

    files = get_sample_results_filenames([str(path) for path in (formats / "lm_eval").iterdir()])
    assert {get_file_task_name(Path(file).name): Path(file) for file in files} == sample_logs(formats)
    assert {sanitize_task_name(name) for name in PROMPTS["dataset"]} <= set(sample_logs(formats))
    for file in files:
        datetime.strptime(get_file_datetime(file), "%Y-%m-%dT%H-%M-%S.%f")
        for line in Path(file).read_text(encoding="utf-8").splitlines():
            assert set(SampleResult.__annotations__) == set(json.loads(line))


def test_datasets_whose_names_make_one_file_name_have_files_of_their_own(candidates, tmp_path):
    prompts = PROMPTS.assign(dataset=["x/y", "x y", "x/y", "x_y"])
    gather_policy_samples(candidates, prompts, "mine", tmp_path / "samples.parquet")
    write_formats(tmp_path / "samples.parquet", prompts, GENERATION, tmp_path / "formats")
    lines = [path.read_text(encoding="utf-8").count("\n") for path in (tmp_path / "formats" / "lm_eval").iterdir()]
    assert sorted(lines) == [1, 1, 2]


def test_formats_are_the_same_bytes_when_they_are_made_again(formats, tmp_path):
    write_formats(tmp_path / "samples.parquet", PROMPTS, GENERATION, tmp_path / "again")
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (formats, tmp_path / "again")
    )
    assert first == second and len(first) == 2 + 2 + 3


def test_a_chain_of_steps_is_a_table_of_one_heuristic():
    (row,) = sampling_heuristics([{"temperature": 0.8}, {"top_p": 0.95}]).to_dict("records")
    assert row["name"] == "temperature_0.8+top_p_0.95"


def test_a_policy_without_a_source_is_made_of_the_base_model():
    base, other, adapter = ({"kind": "folder", "path": name} for name in ("base", "other", "adapter"))
    model = BaseModelSettings(name="base", source=base)
    assert policy_source(Policy(name="same"), model) == base
    assert policy_source(Policy(name="other", source=other), model) == other
    merged = policy_source(Policy(name="merged", adapter=adapter), model)
    assert merged == {"kind": "adapter", "adapter": adapter, "base": base}


def folder_source(path):
    return {"kind": "folder", "path": str(path)}


def test_an_adapter_is_merged_into_its_model(tiny_model_folder, tmp_path):
    from peft import PeftModel

    write_tiny_adapter(tiny_model_folder, tmp_path / "adapter")
    source = {
        "kind": "adapter",
        "adapter": folder_source(tmp_path / "adapter"),
        "base": folder_source(tiny_model_folder),
    }
    fetch_model("merged", source, "CC0-1.0", tmp_path / "merged")
    tokens = torch.arange(40)[None] % 300
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    beside = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model_folder), tmp_path / "adapter")
    plain = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    with torch.no_grad():
        logits, expected, without = (model.eval()(tokens).logits for model in (merged, beside, plain))
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert (logits - without).abs().max() > 1
    tokenizers = [AutoTokenizer.from_pretrained(folder) for folder in (tmp_path / "merged", tiny_model_folder)]
    assert tokenizers[0].chat_template == tokenizers[1].chat_template
    provenance = read_json(tmp_path / "merged" / "provenance.json")
    assert set(provenance["origin"]["adapter_hashes"]) == {"adapter_config.json", "adapter_model.safetensors"}
    assert not [path for path in provenance["files"] if path.startswith(".")]
    fetch_model("merged", source, "CC0-1.0", tmp_path / "again")
    assert read_json(tmp_path / "again" / "provenance.json")["model_hash"] == provenance["model_hash"]


def test_what_is_no_adapter_is_named(tiny_model_folder, tmp_path):
    source = {"kind": "adapter", "adapter": folder_source(tiny_model_folder), "base": folder_source(tiny_model_folder)}
    with pytest.raises(UserError, match=r"holds no adapter_config\.json, so it is no PEFT adapter"):
        fetch_model("merged", source, "CC0-1.0", tmp_path / "merged")
    assert not list(tmp_path.iterdir())
