"""Every format through its reader: nothing lost, the same content back, and TRL trains on it."""

import importlib.util
import json
import math
import sys
from dataclasses import replace
from types import ModuleType

import datasets
import pandas as pd
import pytest
import torch
import yaml

from adaptive_samplers.preferences import (
    FORMATS,
    Outputs,
    PreferenceSettings,
    dataset_card,
    exported_files,
    make_preferences,
    write_format,
)
from adaptive_samplers.preferences.card import _table
from adaptive_samplers.tables import read_table, write_table
from preference_answers import answers_and_labels, heuristics_table, prompts_table

PROMPTS = prompts_table(["train", "validation", "train", "test", "train", "train"])
HEURISTICS = heuristics_table(5)
SETTINGS = {
    "seed": PreferenceSettings(splits=("train", "validation")),
    "prompt": PreferenceSettings(splits=("train", "validation"), group="prompt", pairing="above_margin", most_pairs=4),
}
MODEL = {
    "name": "tiny",
    "source": {"kind": "package", "package": "tiny", "version": "1"},
    "model_hash": "abc123",
    "license": "CC0-1.0",
}


def write_all(folder, chosen) -> dict[str, int]:
    """All formats and the card in a folder; how many rows each has."""
    candidates, quality, correctness = answers_and_labels(6, 5, 3, 21)
    candidates["text"] += " “ü”\n\u2028 | "
    outputs = Outputs(folder / "pairs.parquet", folder / "answers.parquet", folder / "dropped.jsonl")
    report = make_preferences(PROMPTS, HEURISTICS, quality, correctness, lambda: [candidates], {}, chosen, 7, outputs)
    rows = dict.fromkeys(FORMATS, 0)
    for file, (name, split) in exported_files(list(FORMATS), chosen.splits).items():
        rows[name] += write_format(name, *outputs[:2], folder / file, split)
    engines = [{"engine": "transformers", "versions": {"torch": "9.9"}}, {"engine": "old", "versions": None}]
    origin = {"versions": {"adaptive_samplers": "0.1"}, "commit": "f00"}
    files = [folder / file for file in exported_files(list(FORMATS), chosen.splits)] + list(outputs[:2])
    models = {"answered": MODEL, "judged": {**MODEL, "name": "judge-model"}}
    judges = [{"kind": "scalar", "name": "judge-model"}, {"kind": "endpoint", "name": "far", "model": "big"}]
    card = dataset_card(
        "golden", "cc-by-4.0", report, chosen, PROMPTS, HEURISTICS, [0, 1], models, judges, engines, origin, files
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    return rows


@pytest.fixture(scope="module", params=sorted(SETTINGS))
def exported(request, tmp_path_factory):
    """The folder, its tables of pairs and answers as rows, and how many rows each format has."""
    folder = tmp_path_factory.mktemp(request.param)
    rows = write_all(folder, SETTINGS[request.param])
    tables = []
    for name in ("pairs", "answers"):
        table = read_table(f"preference_{name}", folder / f"{name}.parquet").astype(object)
        plain = table.where(table.notna(), None).to_dict("records")
        tables.append([{**row, "prompt": [dict(message) for message in row["prompt"]]} for row in plain])
    return folder, *tables, rows


def loaded(folder, name, cache) -> list[dict]:
    """All rows, as `datasets` finds them by the card."""
    splits = ("train", "test") if name == "simpo" else ("train",)
    found = datasets.load_dataset(str(folder), name, split=list(splits), cache_dir=str(cache))
    return [row for part in found for row in part.to_list()]


def said(text: str) -> list[dict]:
    return [{"role": "assistant", "content": text}]


def test_every_format_comes_back_whole(exported, tmp_path):
    folder, pairs, answers, rows = exported
    labelled = [row for row in answers if row["label"] is not None]
    assert len(pairs) > 5 and {row["label"] for row in labelled} == {True, False}
    found = {name: loaded(folder, name, tmp_path) for name in FORMATS}
    singles = ("trl_unpaired", "halos_binary")
    expected = {name: len(labelled) if name in singles else len(pairs) for name in FORMATS}
    assert rows == expected == {name: len(table) for name, table in found.items()}
    lines = dict.fromkeys((name for name in FORMATS if not FORMATS[name].is_list), 0)
    for file, (name, _) in exported_files(list(lines), ("train", "validation")).items():
        # Python's splitlines ends a line at more characters than JSON Lines does.
        lines[name] += len((folder / file).read_text(encoding="utf-8").splitlines())
    assert lines == {name: rows[name] for name in lines}
    assert found["pairs"] == pairs
    assert found["trl_preference"] == [
        {
            **{name: row[name] for name in ("prompt_id", "split", "prompt")},
            "chosen": said(row["chosen"]),
            "rejected": said(row["rejected"]),
            **{name: row[name] for name in ("score_chosen", "score_rejected", "margin")},
        }
        for row in pairs
    ]
    assert found["trl_unpaired"] == [
        {
            **{name: row[name] for name in ("prompt_id", "split", "prompt", "label")},
            "completion": said(row["text"]),
        }
        for row in labelled
    ]


def test_the_tables_are_read_by_datasets(exported, tmp_path):
    folder, pairs, answers, _ = exported
    for name, rows in (("pairs", pairs), ("answers", answers)):
        file = str(folder / f"{name}.parquet")
        table = datasets.load_dataset("parquet", data_files=file, split="train", cache_dir=str(tmp_path))
        assert table.to_list() == rows


def test_simpo_has_all_answers_that_met_with_their_scores(exported, tmp_path):
    folder, pairs, answers, _ = exported
    ordered = sorted(pairs, key=lambda pair: pair["split"] != "train")
    for row, pair in zip(loaded(folder, "simpo", tmp_path), ordered, strict=True):
        met = {
            answer["text"]: answer["score"]
            for answer in answers
            if answer["prompt_id"] == pair["prompt_id"]
            and answer["reason"] is None
            and pair["seed"] in (None, answer["seed"])
        }
        assert dict(zip(row["all_generated_responses"], row["all_rm_scores"], strict=True)) == met
        assert len(row["all_rm_scores"]) == len(met) >= 2
        assert (row["prompt_id"], row["split"]) == (pair["prompt_id"], pair["split"])
        assert row["chosen"] == pair["prompt"] + said(pair["chosen"])
        assert row["rejected"] == pair["prompt"] + said(pair["rejected"])
        assert row["prompt"] == f"system: Be kind.\n\nuser: {pair['prompt'][1]['content']}"


def test_simpos_own_loader_reads_its_two_splits(exported, tmp_path, monkeypatch):
    package = importlib.util.find_spec("alignment")
    if package is None:
        pytest.skip("alignment-handbook is not installed: make test installs it (tests/readers.txt)")
    # Its loader alone: other modules fetch a benchmark from the hub and need older packages.
    stand_in = ModuleType("alignment")
    stand_in.__path__ = list(package.submodule_search_locations)
    monkeypatch.setitem(sys.modules, "alignment", stand_in)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    from alignment.data import get_datasets, is_openai_format

    folder, pairs, *_ = exported
    columns = ["messages", "chosen", "rejected", "prompt", "completion", "label"]
    found = get_datasets({str(folder): 1.0}, ["train", "test"], ["simpo"], columns)
    for split, splits in (("train", {"train"}), ("test", {"validation"})):
        expected = [(row["prompt"], row["chosen"]) for row in pairs if row["split"] in splits]
        rows = found[split].to_list()
        assert expected and all(is_openai_format(row["chosen"]) for row in rows)
        assert not any(is_openai_format(row["prompt"]) for row in rows), "the conversation is taken from `chosen`"
        seen = sorted(json.dumps([row["chosen"][:-1], row["chosen"][-1]["content"]]) for row in rows)
        assert seen == sorted(json.dumps(pair) for pair in expected)


def test_one_split_of_prompts_is_one_file_for_simpo():
    assert list(exported_files(["simpo", "pairs"], ["train"])) == ["simpo_train.jsonl", "pairs.jsonl"]
    assert list(exported_files(["simpo"], ["test", "validation"])) == ["simpo_test.jsonl"]


def test_halos_has_lists_of_feedback(exported):
    folder, pairs, answers, _ = exported
    pairwise = json.loads((folder / "halos_pairwise.json").read_text(encoding="utf-8"))
    keys = {"prompt_id", "prompt", "output_A", "output_B", "label", "reward_A", "reward_B", "reward_difference"}
    for item, pair in zip(pairwise, pairs, strict=True):
        assert set(item) == keys | {"type", "split"} and item["type"] == "pairwise_feedback"
        better, worse = ("A", "B") if item["label"] == 1 else ("B", "A")
        assert (item[f"output_{better}"], item[f"output_{worse}"]) == (said(pair["chosen"]), said(pair["rejected"]))
        assert item[f"reward_{better}"] == pair["score_chosen"] and item[f"reward_{worse}"] == pair["score_rejected"]
        assert item["reward_difference"] == abs(pair["margin"])
        assert item["split"] == ("train" if pair["split"] == "train" else "test")
        assert (item["prompt_id"], item["prompt"]) == (pair["prompt_id"], pair["prompt"])
    shown_first = [item["label"] for item in pairwise]
    assert 0.2 < sum(shown_first) / len(shown_first) < 0.8, "the winner is now first and now second"
    binary = json.loads((folder / "halos_binary.json").read_text(encoding="utf-8"))
    labelled = [row for row in answers if row["label"] is not None]
    assert [{**item, "output": item["output"][0]["content"], "label": item["label"] == 1} for item in binary] == [
        {
            **{"prompt_id": row["prompt_id"], "prompt": row["prompt"], "output": row["text"], "label": row["label"]},
            **{"reward": row["score"], "type": "binary_feedback"},
            "split": "train" if row["split"] == "train" else "test",
        }
        for row in labelled
    ]


def test_exports_are_the_same_bytes_again(exported, tmp_path):
    folder = exported[0]
    for file, (name, split) in exported_files(list(FORMATS), ("train", "test")).items():
        write_format(name, folder / "pairs.parquet", folder / "answers.parquet", tmp_path / file, split)
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes()


def test_no_labels_are_an_empty_file_that_is_still_its_format(exported, tmp_path):
    folder = exported[0]
    table = pd.read_parquet(folder / "answers.parquet").assign(label=None)
    write_table("preference_answers", table, tmp_path / "answers.parquet")
    for name in ("trl_unpaired", "halos_binary"):
        assert write_format(name, folder / "pairs.parquet", tmp_path / "answers.parquet", tmp_path / name) == 0
    assert (tmp_path / "trl_unpaired").read_text() == ""
    assert json.loads((tmp_path / "halos_binary").read_text()) == []


def test_the_card_says_where_the_data_came_from(exported):
    folder, pairs, *_ = exported
    text = (folder / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    front = yaml.safe_load(front)
    assert front["license"] == "cc-by-4.0" and front["size_categories"] == ["n<1K"]
    assert {entry["config_name"] for entry in front["configs"]} == set(FORMATS)
    files = {entry["config_name"]: entry["data_files"] for entry in front["configs"]}
    parts = files.pop("simpo")
    assert [part["split"] for part in parts] == ["train", "test"]
    assert all((folder / name).is_file() for name in [*files.values(), *(part["path"] for part in parts)])
    for words in (
        f"{len(pairs)} preference pairs",
        "abc123",
        "judge-model",
        "torch 9.9",
        "not recorded",
        "`temperature_3`",
        "CC0-1.0",
        "commit f00",
        "far, the model big behind an endpoint",
        "Check against verifiers",
    ):
        assert words in body


def test_what_comes_from_outside_is_text_on_one_line_in_the_card():
    cells = ["a\r\n| b", "<img src=x onerror=alert(1)>", "\ud800\x1b[31m", "`code <b> \n|`", "`a` <b> `c`", 3]
    assert _table(["one"], [[cell] for cell in cells]).split("\n") == [
        "| one |",
        "| --- |",
        r"| a \| b |",
        "| &lt;img src=x onerror=alert(1)&gt; |",
        "|  [31m |",
        r"| `code <b>  \|` |",
        "| `a` &lt;b&gt; `c` |",
        "| 3 |",
    ]


@pytest.fixture(scope="module")
def dpo_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    write_all(folder, replace(SETTINGS["prompt"], splits=("train",)))
    return folder


def trained(trainer_class, config_class, folder, name, model_folder, place, **options):
    """Three real steps of one of TRL's trainers on a tiny model; the trainer, and the model's parameters before."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    data = datasets.load_dataset(str(folder), name, split="train", cache_dir=str(place / "cache"))
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    config = config_class(
        output_dir=str(place / "out"),
        max_steps=3,
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        max_length=120,
        **options,
    )
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    trainer = trainer_class(model=model, args=config, train_dataset=data, processing_class=tokenizer)
    trainer.train()
    assert len(trainer.train_dataset) == len(data), "TRL's own preparation loses no row"
    return trainer, before


def check_training(trainer, before) -> None:
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 3 and all(math.isfinite(loss) for loss in losses)
    after = trainer.accelerator.unwrap_model(trainer.model).state_dict()
    assert any(not torch.equal(before[key], after[key].cpu()) for key in before)
    assert all(value.isfinite().all() for value in after.values())


def test_dpo_trains_on_preferences(dpo_folder, tiny_model_folder, tmp_path):
    from trl import DPOConfig, DPOTrainer

    check_training(*trained(DPOTrainer, DPOConfig, dpo_folder, "trl_preference", tiny_model_folder, tmp_path))


def test_kto_trains_on_labels(dpo_folder, tiny_model_folder, tmp_path):
    from trl import KTOConfig, KTOTrainer

    check_training(*trained(KTOTrainer, KTOConfig, dpo_folder, "trl_unpaired", tiny_model_folder, tmp_path))
