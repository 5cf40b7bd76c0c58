"""`snakemake preferences` on a finished run makes preference data, and leaves all else as it is."""

import json

import datasets

from adaptive_samplers.files import read_json
from adaptive_samplers.tables import read_table

RULES = {"make_preferences": 1, "export_preferences": 6, "describe_preferences": 1}
TARGET = {**RULES, "preferences": 1}


def files_elsewhere(workflow):
    """When each file of the run outside of its preferences was written."""
    own = workflow.result("preferences")
    files = [path for path in workflow.result("").rglob("*") if path.is_file() and own not in path.parents]
    return {path: path.stat().st_mtime_ns for path in files}


def test_the_target_starts_only_its_own_rules(workflow, tmp_path):
    assert workflow.planned() == {}, "no run needs preferences by itself"
    assert workflow.planned("preferences") == TARGET
    before = files_elsewhere(workflow)
    done = workflow.run("preferences")
    assert done.returncode == 0, done.stdout[-3000:]
    assert files_elsewhere(workflow) == before, "nothing is generated or judged again"
    assert workflow.planned("preferences") == {} == workflow.planned()
    folder = workflow.result("preferences")
    report = read_json(folder / "report.json")
    pairs = read_table("preference_pairs", folder / "pairs.parquet")
    assert report["pairs"] == len(pairs) > 0 and report["score"] == "reward"
    prompts = read_table("prompts", workflow.result("prompts.parquet")).set_index("prompt_id")
    assert set(prompts["split"].loc[pairs["prompt_id"]]) == {"train"}
    texts = read_table("candidates", workflow.result("candidates.parquet")).set_index(
        ["prompt_id", "heuristic_id", "seed"]
    )["text"]
    for pair in pairs.itertuples():
        assert texts[pair.prompt_id, pair.heuristic_id_chosen, pair.seed_chosen] == pair.chosen
        assert json.loads(prompts["messages"][pair.prompt_id]) == [dict(message) for message in pair.prompt]
    loaded = datasets.load_dataset(str(folder), "trl_preference", split="train", cache_dir=str(tmp_path))
    assert len(loaded) == len(pairs)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "transformers" in card and "not recorded" not in card
    hashes = {read_json(path)["model_hash"] for path in workflow.result("models").glob("*/provenance.json")}
    assert all(found in card for found in hashes)


def test_a_change_makes_again_what_depends_on_it(workflow):
    if workflow.planned("preferences"):
        assert workflow.run("preferences").returncode == 0
    same_pairs = {"preferences": {"license": "cc-by-4.0"}}
    assert workflow.planned("preferences", config=same_pairs) == {"describe_preferences": 1, "preferences": 1}
    assert workflow.planned("preferences", config={"preferences": {"pairing": "neighbors"}}) == TARGET
    assert workflow.planned(config={"preferences": {"pairing": "neighbors"}}) == {}
