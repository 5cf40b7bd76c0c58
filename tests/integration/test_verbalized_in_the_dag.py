"""Verbalized sampling in the DAG, on the real language model: in every comparison, and in no training set."""

import shutil

import numpy as np
import pytest

from adaptive_samplers.files import read_json
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.tables import KEY, read_table
from adaptive_samplers.verbalized import parse_verbalized
from adaptive_samplers.verbalized.parsing import UNPARSED
from support import SMOKE, working_directory

pytestmark = [pytest.mark.pipeline, pytest.mark.model]

# On one line, the example is no list, and a small model's copies of it count as answers.
TEMPLATE = (
    "{prompt}\n\nGive {answers} different answers, as a list like this: 1. (0.4) first answer 2. (0.3) second answer"
)
ENTRY = {"answers": 3, "max_new_tokens": 60, "pipeline": [{"temperature": 0.7}], "template": TEMPLATE}
CONFIG = {
    "heuristics": {"verbalized": [ENTRY]},
    "samplers": {"SimpleDistributionAwareTransform": None, "SamplingNetwork": None},
}


def test_answers_drawn_from_replies_are_compared_and_train_nothing(workflow, tmp_path):
    copied = working_directory(tmp_path / "work")
    shutil.copytree(workflow.folder / ".snakemake", copied.folder / ".snakemake")
    # Generation changes its shards in place.
    shutil.copytree(workflow.folder / "results", copied.folder / "results")
    # With an empty list, all is as if the key were not there.
    assert copied.planned(config={"heuristics": {"verbalized": []}}) == {}

    wanted = ["evaluation/comparison.parquet", "selection/filtered.parquet", "tables/completeness.html"]
    done = copied.run(*(f"results/smoke/{name}" for name in wanted), config=CONFIG)
    assert done.returncode == 0, done.stdout[-5000:]
    assert "64 of 80 answers were finished before" in done.stdout

    heuristics = read_table("heuristics", copied.result("heuristics.parquet")).set_index("family")
    prompted = heuristics.loc["verbalized"]
    table = read_table("candidates", copied.result("candidates.parquet"))
    before = read_table("candidates", workflow.result("candidates.parquet")).set_index(KEY)["text"]
    assert table.set_index(KEY)["text"][before.index].equals(before)
    table = table[table["heuristic_id"] == prompted["heuristic_id"]].reset_index(drop=True)
    read, unread = (table[table["error"].isna() == good] for good in (True, False))
    assert len(table) == 16 * 2 and len(read) and unread["error"].str.startswith(UNPARSED).all()

    report = read_json(copied.result("candidates_report.json"))
    assert len(report.get("unparsed", [])) == len(unread) and not report["failed"] + report["dropped_prompts"]
    replies = [
        read_table("candidates_with_replies", path)
        for path in sorted((copied.folder / "results/smoke/candidates").glob("seed=*/*.parquet"))
    ]
    replies = {tuple(row[key] for key in KEY): row["reply"] for part in replies for _, row in part.iterrows()}
    tokenizer = ChatTokenizer(copied.result(f"models/{SMOKE['model']['name']}"))
    for row in read.itertuples():
        reply = replies[row.prompt_id, row.heuristic_id, row.seed]
        drawn = reply["answers"][int(reply["drawn"])]
        assert drawn in dict(parse_verbalized(reply["text"], reply["finish_reason"] == "length"))
        assert drawn.startswith(row.text) and tokenizer.decode(row.token_ids) == row.text
        assert row.finish_reason == ("stop" if drawn == row.text else "length") and len(row.token_ids) <= 16
        assert len(row.token_logprobs) == len(row.token_ids) == len(row.end_logprobs) - 1
        assert np.less_equal(row.token_logprobs, 0).all()

    quality = read_table("quality", copied.result("labels/quality.parquet"))
    quality = quality[quality["heuristic_id"] == prompted["heuristic_id"]].set_index(KEY)["rating"]
    assert quality[read.set_index(KEY).index].notna().all() and quality.notna().sum() == len(read)
    filtered = read_table("filtered", copied.result("selection/filtered.parquet"))
    filtered = filtered[filtered["heuristic_id"] == prompted["heuristic_id"]]
    assert len(filtered) == len(table) and "prompted" in set(filtered["reason"])
    for path in (copied.folder / "results/smoke/training_sets").glob("*.parquet"):
        assert prompted["heuristic_id"] not in set(read_table("training_sets", path)["heuristic_id"])
    comparison = read_table("comparison", copied.result("evaluation/comparison.parquet"))
    rows = comparison[comparison["name"] == prompted["name"]]
    assert len(rows) == len(SMOKE["evaluation"]["objectives"]) and set(rows["kind"]) == {"heuristic"}
