"""A stage whose output changes must have its version raised, or Snakemake would keep what the old code made.

Every stage's output on a small fixed input is kept in golden_stages.json: a hash of all but the floats, and the floats,
which may differ by rounding from one processor to the next.
"""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from adaptive_samplers.budgets import BudgetSettings, allocate_budget, read_first_round
from adaptive_samplers.evaluation import compare_samplers, paired_differences, write_tables
from adaptive_samplers.files import read_json, write_json
from adaptive_samplers.grid import Grid
from adaptive_samplers.hashing import content_id
from adaptive_samplers.heuristics import (
    apply_on_support,
    apply_to_logits,
    configured_pipeline,
    draw,
    expand_heuristics,
    learned_heuristic,
    parse_processors,
    sort_logits,
)
from adaptive_samplers.labels.correctness import label_correctness
from adaptive_samplers.labels.diversity import label_diversity
from adaptive_samplers.labels.judges.feature_reward import FeatureReward, feature_reward_judge, train_feature_reward
from adaptive_samplers.labels.judges.features import FEATURES, texts_to_embed
from adaptive_samplers.labels.overlap import LocalTracer, build_index, label_overlap
from adaptive_samplers.labels.quality import label_quality
from adaptive_samplers.labels.verifiers import Verification
from adaptive_samplers.pages import comparison_page, completeness_page, judge_page
from adaptive_samplers.probes import probe_distributions
from adaptive_samplers.prompts import collect_prompts
from adaptive_samplers.randomness import sample_seed, uniforms
from adaptive_samplers.samplers import build_sampler
from adaptive_samplers.selection import (
    answer_id,
    filtered_answers,
    filtering_reasons,
    filtering_report,
    marginals,
    score_candidates,
    select_training_set,
)
from adaptive_samplers.tables import KEY, read_table, to_arrow, write_table
from adaptive_samplers.training import TrainingSettings, evaluate, train
from adaptive_samplers.training.learnability import learn_heuristic
from adaptive_samplers.training.replay import SketchShard, answers_of_shard, replay, token_steps
from adaptive_samplers.verification import verify_candidates
from adaptive_samplers.versions import STAGE_VERSIONS

GOLDEN_FILE = Path(__file__).with_name("golden_stages.json")
# What differs by less than this is the same number, rounded otherwise.
RELATIVE, ABSOLUTE = 1e-3, 1e-6

GRID = [
    {"family": "temperature", "temperatures": [0.5, 1.0]},
    {"family": "top_k", "values": [4], "temperatures": [0.7, 1.0]},
    {"family": "top_p", "values": [0.8]},
    {"family": "min_p", "values": [0.2]},
    {"family": "typical", "values": [0.7]},
    {"family": "epsilon", "values": [0.05]},
    {"family": "eta", "values": [0.1]},
]
HEURISTICS = pd.DataFrame(expand_heuristics(GRID, [[{"top_k": 6}, {"temperature": 1.3}]]))
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


def golden_prompts(folder: Path):
    rows = [{"prompt": f"Write about thing {i}.", "kind": ["creative", "chat"][i % 2]} for i in range(12)]
    rows += [{"prompt": "Add 2 and 3.", "kind": "verifiable", "verifier": "numeric", "ground_truth": 5}, rows[0]]
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    chat = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi!"}]}]
    chat[0]["messages"].append({"role": "user", "content": "And now?"})
    (folder / "q.jsonl").write_text(json.dumps(chat[0]) + "\n")
    sources = [{"path": "p.jsonl"}, {"path": "q.jsonl", "kind": "chat", "system_prompt": "Be kind.", "dataset": "q"}]
    caps = {"train": 2, "validation": None, "test": 2}
    return collect_prompts(sources, {"train": 0.5, "validation": 0.2, "test": 0.3}, caps, folder)


def golden_heuristics(_):
    return [HEURISTICS, learned_heuristic("samplers/SamplingNetwork/a0.7_b0.3_c0_top2")]


def golden_generation(_):
    """What the transformers engine does at a token: sort, process, draw."""
    pipelines = [parse_processors(row.processors) for row in HEURISTICS.itertuples()]
    logits = logits_of(12, 40)
    chosen, kept = [], []
    for row in logits:
        rows = row.expand(len(pipelines), -1)
        t, order = sort_logits(rows.log_softmax(-1))
        changed = apply_on_support(t, None, pipelines).t
        kept.append(changed.isfinite().sum(-1).tolist())
        for seed in range(3):
            number = uniforms(sample_seed(20260101, "a", seed), 4)[3]
            positions = draw(changed, torch.full((len(pipelines),), number, dtype=torch.float64))
            chosen.append(order.gather(1, positions[:, None]).flatten().tolist())
    return [chosen, kept, apply_to_logits(logits[: len(pipelines)], pipelines[: len(logits)]).softmax(-1).tolist()]


def golden_verification(folder: Path):
    table = candidates()
    changed = pd.concat([table[table.index != 3], table[20:21]])
    write_table("candidates", changed, folder / "shard.parquet")
    verify_candidates(
        [folder / "shard.parquet"], PROMPTS, FEW, [0, 1, 2], 1.0, folder / "all.parquet", folder / "report.json"
    )
    return [read_table("candidates", folder / "all.parquet"), read_json(folder / "report.json")]


def golden_allocation(folder: Path):
    prompts = pd.concat([PROMPTS.assign(prompt_id=PROMPTS["prompt_id"] + str(i), split="train") for i in range(4)])
    prompts = pd.concat([prompts, PROMPTS[2:]], ignore_index=True)
    keys = [(p, h, s) for p in prompts["prompt_id"] for h in FEW["heuristic_id"] for s in (0, 1)]
    quality, diversity, correctness = label_tables(keys)
    place = quality["heuristic_id"].map({name: number for number, name in enumerate(FEW["heuristic_id"])})
    quality = quality.assign(rating=quality["rating"] - 2 * place, rating_stderr=0.5, comparisons=3, reward=np.nan)
    write_table("quality", quality.astype({"comparisons": np.int32}), folder / "quality.parquet")
    scores = score_candidates(prompts, quality, diversity, correctness, "vendi_score")
    write_table("scores", scores, folder / "scores.parquet")
    weights = ({"diversity": 0.0, "quality": 1.0, "correctness": 0.0}, {"diversity": 0.2, "quality": 0.8})
    settings = BudgetSettings(2, 0.6, 1, 0.9, 2, 0.5, weights)
    files = folder / "scores.parquet", folder / "quality.parquet"
    first = read_first_round(*files, prompts, FEW, [0, 1], weights, correct_only=True)
    report = folder / "report.json"
    allocate_budget(first, prompts, FEW, [0, 1, 2, 3, 4], settings, folder / "allocation.parquet", report)
    return [read_table("allocation", folder / "allocation.parquet"), read_json(report)]


def golden_judge(_):
    rows = []
    for number in range(24):
        better, worse = wave(4, number), wave(4, number + 0.5) - 0.3
        row = {"prompt": f"p{number % 8}", "corruption": ["shuffled", "repeated"][number % 2]}
        for side, features in (("chosen", better), ("rejected", worse)):
            row |= {f"{side}_{name}": value for name, value in zip(FEATURES, features, strict=True)}
        rows.append(row)
    model, report = train_feature_reward(pd.DataFrame(rows), 0.1)
    report = {key: value for key, value in report.items() if key != "limits"}
    return [model.weights, model.means, model.scales, report]


def golden_quality(_):
    reward = FeatureReward(np.array([1.0, 0.5, 0.25, 2.0]), np.zeros(4), np.ones(4))
    table = candidates()
    vectors = embeddings(texts_to_embed(PROMPTS, table, decode))
    judge = feature_reward_judge(reward, PROMPTS, table, vectors, decode)
    results = []
    for schedule in ("swiss", "round_robin"):
        tournament = {"schedule": schedule, "rounds": 2 if schedule == "swiss" else None, "regularization": 0.1}
        results += label_quality(table, judge, tournament, 0.0, seed=7)
    return results


def golden_index(folder: Path):
    build_index([[1, 2, 3, 4], [], [3, 4, 5]], folder / "index", 9)
    metadata = read_json(folder / "index" / "metadata.json")
    del metadata["tokengrams"]
    return [metadata, (folder / "index" / "tokens.bin").read_bytes().hex()]


def golden_overlap(folder: Path):
    build_index([list(range(8)), [3, 2, 1]], folder / "index", len(WORDS))
    return label_overlap([candidates()], LocalTracer(folder / "index"), 2, 0.0)


def golden_scores(_):
    return [
        score_candidates(PROMPTS, *label_tables(), measure)
        for measure in ("self_bleu", "embedding_entropy", "vendi_score")
    ]


def golden_selection(_):
    scores = score_candidates(PROMPTS, *label_tables(), "embedding_entropy")
    answers = to_arrow("candidates", candidates())
    weights = {"diversity": 0.7, "quality": 0.3, "correctness": 0.1}
    return [
        select_training_set(
            scores, lambda names: answers.select(names).to_batches(7), HEURISTICS, weights, "a0.7_b0.3_c0.1", *options
        )
        for options in ((1, True), (3, False))
    ]


def golden_summary(_):
    scores = score_candidates(PROMPTS, *label_tables(), "embedding_entropy")
    answers = to_arrow("candidates", candidates())
    weights = {"diversity": 0.7, "quality": 0.3, "correctness": 0.1}
    grid = Grid(PROMPTS["prompt_id"], HEURISTICS["heuristic_id"], sorted(set(scores["seed"])))
    reasons = filtering_reasons(grid, scores, lambda names: answers.select(names).to_batches(7), correct_only=True)
    kept = scores[(reasons[grid.places(scores)] == 0)][::3]
    table = marginals(scores, reasons[grid.places(scores)] == 0, HEURISTICS, {("a0.7_b0.3_c0.1", 2): (weights, kept)})
    return [filtered_answers(grid, reasons).to_pandas(), table, filtering_report(grid, reasons, PROMPTS)]


class FixedModel:
    """A language model whose logits are a formula of the answer."""

    model = SimpleNamespace(dtype=torch.float32)
    tokenizer = SimpleNamespace(decode=decode)

    def refuse(self, *_):
        return None

    def decode(self, token_ids):
        return decode(token_ids)

    def answer_logits(self, pairs, batch_size):
        for position, (_, answer) in enumerate(pairs):
            yield position, logits_of(len(answer) + 1 + position, 60)[position:]


class FixedWords(FixedModel):
    """The same with as many tokens as there are words."""

    def answer_logits(self, pairs, batch_size):
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


def replayed(folder: Path) -> tuple[pd.DataFrame, Path]:
    training_set, path = training_rows(folder), folder / "shard.safetensors"
    replay(answers_of_shard([training_set], 0, 1), FixedModel(), "hash", 8, 6, path)
    return training_set, path


def golden_replay(folder: Path):
    _, path = replayed(folder)
    shard = SketchShard.load(path)
    few = slice(0, None, 9)
    return [
        shard.answer_ids,
        shard.starts.tolist(),
        shard.token_ids.tolist(),
        shard.sketch.t[few].tolist(),
        shard.sketch.n[few].tolist(),
    ]


def golden_training(folder: Path):
    training_set, path = replayed(folder)
    steps = token_steps(training_set, [path])
    results = [steps.target[::9].tolist()]
    architectures = {
        "LocalProbabilityTransform": {"hidden_dims": 6},
        "SimpleDistributionAwareTransform": {"hidden_dims": 6, "use_dynamic_truncation": True},
        "SamplingNetwork": {"d_model": 4, "d_ff": 6, "n_blocks": 1, "n_heads": 2, "scale": True},
    }
    settings = TrainingSettings(0.01, 8, 6, 2, evaluate_every=3, seed=1)
    for architecture, config in architectures.items():
        sampler = build_sampler(architecture, config, seed=1)
        trained = train(sampler, steps, steps, settings, folder / architecture)
        results.append([architecture, trained.best_step, evaluate(trained.sampler, steps, 1.0), trained.curves])
    return results


def golden_learnability(folder: Path):
    training_set, path = replayed(folder)
    ids = sorted(set(training_set["answer_id"]))
    splits = {answer: ("train", "validation", "test")[place % 3] for place, answer in enumerate(ids)}
    training = {"learning_rate": 0.01, "batch_size": 8, "steps": 6, "warmup_steps": 2, "evaluate_every": 3}
    return learn_heuristic(
        training_set.assign(split=training_set["answer_id"].map(splits)),
        [path],
        configured_pipeline([{"top_k": 3}]),
        "LocalProbabilityTransform",
        {"hidden_dims": 6},
        training,
        seed=1,
        checkpoint=folder / "checkpoint",
    )


def comparison_inputs():
    keys = [(f"p{i}", heuristic, seed) for i in range(6) for heuristic in FEW["heuristic_id"] for seed in (0, 1)]
    heuristics = FEW.copy()
    heuristics.loc[3, "family"] = "learned"
    settings = {"objectives": ["quality", "self_bleu", "correctness"], "resamples": 50, "confidence": 0.9, "seed": 3}
    return (*label_tables(keys), heuristics), settings


def golden_comparison(_):
    tables, settings = comparison_inputs()
    return [compare_samplers(*tables, **settings), paired_differences(*tables, **settings)]


def golden_probes(folder: Path):
    training_set = training_rows(folder).assign(split="test")
    return probe_distributions(training_set, PROMPTS, FixedWords(), {}, 3)


def golden_tables(folder: Path):
    tables, settings = comparison_inputs()
    comparison = compare_samplers(*tables, **settings).round(4)
    write_tables(comparison, folder / "c.csv", folder / "c.tex")
    comparison_page(comparison, folder / "c.html")
    counts = {"expected": 2, "found": 1, "missing": ["m"], "duplicated": [], "failed": ["f"], "dropped_prompts": ["a"]}
    completeness_page({"heuristics": {**counts, "finish_reasons": {"stop": 1}}}, folder / "d.html")
    judge = {"pairs": 9, "prompts": 3, "left_out": 1, "folds": 3, "accuracy": 0.75, "weights": {"relevance": 1.5}}
    accuracy = {"shuffled": 0.5}
    judge |= {"accuracy_by_corruption": accuracy, "accuracy_corruption_left_out": accuracy, "limits": "Few."}
    tournaments = {"groups": 3, "failure_reasons": {"no answer": 1}, "judge": {"kind": "x", "position_bias": 0.25}}
    judge_page(tournaments, judge, folder / "e.html")
    return [(folder / name).read_text(encoding="utf-8") for name in ("c.csv", "c.tex", "c.html", "d.html", "e.html")]


def golden_correctness(folder: Path) -> pd.DataFrame:
    write_table("candidates", candidates(), folder / "candidates.parquet")
    output = folder / "correctness.parquet"
    label_correctness(folder / "candidates.parquet", PROMPTS, output, 0.0, Verification())
    return read_table("correctness", output)


GOLDEN = {
    "collect_prompts": golden_prompts,
    "expand_heuristics": golden_heuristics,
    "generate_candidates": golden_generation,
    "verify_candidates": golden_verification,
    "allocate_budget": golden_allocation,
    "train_judge": golden_judge,
    "label_quality": golden_quality,
    "label_diversity": lambda _: label_diversity(candidates(), embeddings(TEXTS)),
    "label_correctness": golden_correctness,
    "index_corpus": golden_index,
    "label_overlap": golden_overlap,
    "score_candidates": golden_scores,
    "select_training_set": golden_selection,
    "summarize_selection": golden_summary,
    "replay_distributions": golden_replay,
    "train_sampler": golden_training,
    "learn_heuristic": golden_learnability,
    "compare_samplers": golden_comparison,
    "probe_distributions": golden_probes,
    "tables": golden_tables,
}
WITHOUT_GOLDEN = {
    "embed_candidates": "the vectors are an embedding model's, and a model is too large for a test of seconds",
    "figures": "what matplotlib draws differs from one version to the next; test_figures looks at what is in them",
}


def skeleton(value, numbers: list[float | None]):
    """`value` as plain JSON, its floats moved into `numbers`."""
    if isinstance(value, pd.DataFrame):
        return [list(value.columns), [skeleton(row, numbers) for row in value.to_numpy(dtype=object).tolist()]]
    if isinstance(value, dict):
        return {str(key): skeleton(item, numbers) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [skeleton(item, numbers) for item in value]
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float | np.floating):
        numbers.append(float(f"{value:.6g}") if math.isfinite(value) else str(value))
        return "float"
    return value.item() if isinstance(value, np.generic) else value


def entry_of(stage: str, folder: Path) -> dict:
    numbers: list[float | None] = []
    plain = skeleton(GOLDEN[stage](folder), numbers)
    return {"version": STAGE_VERSIONS[stage], "hash": content_id(plain, length=32), "numbers": numbers}


def same_output(one: dict, other: dict) -> bool:
    """Whether two entries have the same content, up to the rounding of floats."""
    if one["hash"] != other["hash"] or len(one["numbers"]) != len(other["numbers"]):
        return False
    pairs = [pair for pair in zip(one["numbers"], other["numbers"], strict=True) if pair[0] != pair[1]]
    return all(not isinstance(a, str) and not isinstance(b, str) for a, b in pairs) and all(
        math.isclose(a, b, rel_tol=RELATIVE, abs_tol=ABSOLUTE) for a, b in pairs
    )


def complaint(stage: str, kept: dict | None, found: dict) -> str | None:
    """What is wrong with a stage, or None."""
    record = "run `python -m pytest tests/unit/test_stage_versions.py --update-golden`"
    if kept is None:
        return f"the stage '{stage}' has no golden output yet; {record}"
    if kept["version"] != found["version"]:
        return f"the version of the stage '{stage}' was changed from {kept['version']} to {found['version']}; {record}"
    if not same_output(kept, found):
        return (
            f"the output of the stage '{stage}' changed for the same input: raise its version in "
            f"scripts/adaptive_samplers/versions.py, so that results of the old code are made again, and {record}. "
            "(Only where this test's input was changed: delete the stage's entry from golden_stages.json instead.)"
        )
    return None


@pytest.mark.parametrize("stage", sorted(GOLDEN))
def test_a_stage_with_another_output_has_another_version(stage, tmp_path, request):
    golden = read_json(GOLDEN_FILE) if GOLDEN_FILE.exists() else {}
    kept, found = golden.get(stage), entry_of(stage, tmp_path)
    changed_unnoticed = kept is not None and kept["version"] == found["version"] and not same_output(kept, found)
    if request.config.getoption("--update-golden") and not changed_unnoticed:
        if kept is None or kept["version"] != found["version"]:
            golden[stage] = found
            write_json(dict(sorted(golden.items())), GOLDEN_FILE)
        return
    message = complaint(stage, kept, found)
    assert message is None, message


def test_every_stage_has_a_golden_output_or_a_reason():
    assert not set(GOLDEN) & set(WITHOUT_GOLDEN)
    assert set(GOLDEN) | set(WITHOUT_GOLDEN) == set(STAGE_VERSIONS)
    assert set(read_json(GOLDEN_FILE)) == set(GOLDEN) and all(WITHOUT_GOLDEN.values())


def test_every_stage_is_used_by_a_rule():
    rules = "".join(path.read_text() for path in (GOLDEN_FILE.parents[2] / "rules").glob("*.smk"))
    assert {stage for stage in STAGE_VERSIONS if f'"{stage}"' not in rules} == set()


def test_what_counts_as_a_change():
    kept = {"version": 1, "hash": "a", "numbers": [1.0, -20.0, "inf"]}
    assert complaint("x", kept, {**kept, "numbers": [1.0001, -20.001, "inf"]}) is None
    for change in (
        {"hash": "b"},
        {"numbers": [1.01, -20.0, "inf"]},
        {"numbers": [1.0, -20.0, 5.0]},
        {"numbers": [1.0]},
    ):
        assert "raise its version" in complaint("x", kept, {**kept, **change})
        assert "--update-golden" in complaint("x", kept, {**kept, **change})
        assert "was changed from 1 to 2" in complaint("x", kept, {**kept, **change, "version": 2})
    assert "no golden output" in complaint("x", None, kept)
