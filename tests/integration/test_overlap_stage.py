"""Overlap by the DAG: an index of a small corpus, and a server of infini-gram's API, give the same table."""

import sys

import pytest

from adaptive_samplers.files import read_json
from adaptive_samplers.tables import read_table, write_table
from infinigram_server import INDEX, Api, serving
from support import Workflow, working_directory
from tiny_model import SENTENCES, write_tiny_model

TARGET = "results/smoke/labels/overlap.parquet"
RULES = ["fetch_model", "index_corpus", "label_overlap"]
ANSWERS = [SENTENCES[0], f"Nobody knew why; {SENTENCES[1][:30]}", "", "?"]


@pytest.fixture
def prepared(tmp_path) -> Workflow:
    """A folder with a model and a corpus, where the candidates are there already."""
    from transformers import AutoTokenizer

    workflow = working_directory(tmp_path / "work")
    write_tiny_model(workflow.folder / "tiny")
    (workflow.folder / "corpus.txt").write_text("\n".join(SENTENCES[:3]), encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(workflow.folder / "tiny")
    rows = [
        {
            "prompt_id": "p",
            "heuristic_id": "h",
            "seed": seed,
            "prompt_token_ids": [1],
            "token_ids": tokenizer(text, add_special_tokens=False)["input_ids"],
            "text": text,
            "finish_reason": "error" if text == "?" else "stop",
            "sample_seed": seed,
            "engine": "none",
            "error": "lost" if text == "?" else None,
            "token_logprobs": None,
            "end_logprobs": None,
        }
        for seed, text in enumerate(ANSWERS)
    ]
    write_table("candidates", rows, workflow.result("candidates.parquet"))
    return workflow


def config_of(overlap: dict) -> dict:
    """The smoke preset with the tiny model, of which only overlap matters here."""
    model = {"name": "tiny", "source": {"kind": "folder", "path": "tiny"}, "license": "CC0-1.0", "device": "cpu"}
    return {"model": model, "labels": {"overlap": {"enabled": True, "minimum_match": 3, **overlap}}}


def make(workflow: Workflow, config: dict) -> str:
    """Make the overlap table; what Snakemake said."""
    done = workflow.run(TARGET, "--allowed-rules", *RULES, config=config)
    assert done.returncode == 0, done.stdout
    return done.stdout


WITHOUT_TOKENGRAMS = """
import importlib.util

find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "tokengrams" else find_spec(name, package)
"""


def test_without_tokengrams_a_run_says_what_to_type_before_any_job(prepared, monkeypatch):
    hidden = prepared.folder / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(WITHOUT_TOKENGRAMS)
    monkeypatch.setenv("PYTHONPATH", str(hidden))
    local = config_of({"corpus": ["corpus.txt"]})
    done = prepared.run(TARGET, "--allowed-rules", *RULES, config=local)
    assert done.returncode != 0
    assert f"{sys.executable} -m pip install tokengrams" in done.stdout
    assert "Traceback" not in done.stdout and not prepared.result("models").exists()
    # In conda's environments it is there.
    done = prepared.run(TARGET, "--dry-run", "--sdm", "conda", "--allowed-rules", *RULES, config=local)
    assert "pip install tokengrams" not in done.stdout and "Building DAG of jobs" in done.stdout
    # Nor is it needed for the other kind.
    served = config_of({"kind": "infinigram", "infinigram": {"index": INDEX}})
    assert prepared.planned(TARGET, "--allowed-rules", *RULES, config=served)["label_overlap"] == 1


@pytest.mark.usefixtures("tokengrams")
def test_both_kinds_of_corpus_give_the_same_table(prepared):
    local = config_of({"corpus": ["corpus.txt"]})
    planned = prepared.planned(TARGET, "--allowed-rules", *RULES, config=local)
    assert planned == {"fetch_model": 1, "index_corpus": 1, "label_overlap": 1}
    make(prepared, local)
    by_index = read_table("overlap", prepared.result("labels/overlap.parquet"))
    assert by_index["coverage"][0] == 1.0 and by_index["breaks"][0] == 1
    assert 0.3 < by_index["coverage"][1] < 1.0
    assert by_index["error"].tolist()[3] == "generation failed: lost"
    report = read_json(prepared.result("labels/overlap_report.json"))
    assert (report["answers"], report["failed_answers"], report["empty_answers"]) == (4, 1, 1)

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(prepared.folder / "tiny")

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    with serving(Api(encode("\n".join(SENTENCES[:3])), encode, faults=[(503, {}, b"")])) as api:
        server = {"url": api.url, "index": INDEX, "requests_per_second": 500, "cache": "replies.sqlite"}
        make(prepared, config_of({"kind": "infinigram", "infinigram": server}))
    by_server = read_table("overlap", prepared.result("labels/overlap.parquet"))
    assert by_server.equals(by_index)
    report = read_json(prepared.result("labels/overlap_report.json"))
    assert report["index"] == INDEX and report["requests"] == len(api.received) > 10
