"""Golden outputs of the stages that ask for answers and count them."""

import json
import re
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from adaptive_samplers.budgets import allocate_budget, read_first_phase
from adaptive_samplers.config.model.generation import AdaptiveBudgets
from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.config.model.prompts import PromptSource
from adaptive_samplers.engines import Completion
from adaptive_samplers.engines.transformers_engine import TransformersEngine
from adaptive_samplers.explain.page import explanation_page
from adaptive_samplers.explain.steps import Asked, explain
from adaptive_samplers.explain.terminal import as_text
from adaptive_samplers.explain.ways import Mixture, chain_way, families, sampler_ways
from adaptive_samplers.files import read_json
from adaptive_samplers.generation import GenerationSettings, generate
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
from adaptive_samplers.heuristics.pipelines import TEMPLATE
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.policies.formats import write_formats
from adaptive_samplers.policies.iterations import as_contestants, contestants
from adaptive_samplers.policies.prompt_slices import slice_prompts
from adaptive_samplers.policies.rescoring import rescore
from adaptive_samplers.policies.samples import gather_policy_samples, sampling_heuristics
from adaptive_samplers.prompts import collect_prompts
from adaptive_samplers.randomness import sample_seed, uniforms
from adaptive_samplers.samplers import build_sampler
from adaptive_samplers.selection import score_candidates
from adaptive_samplers.tables import read_table, write_table
from adaptive_samplers.verbalized.asking import Asking
from adaptive_samplers.verification import verify_candidates
from golden.inputs import FEW, GRID, HEURISTICS, PROMPTS, candidates, label_tables, language_model, logits_of


def golden_prompts(folder: Path):
    rows = [{"prompt": f"Write about thing {i}.", "kind": ["creative", "chat"][i % 2]} for i in range(12)]
    rows += [{"prompt": "Add 2 and 3.", "kind": "verifiable", "verifier": "numeric", "ground_truth": 5}, rows[0]]
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    chat = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi!"}]}]
    chat[0]["messages"].append({"role": "user", "content": "And now?"})
    (folder / "q.jsonl").write_text(json.dumps(chat[0]) + "\n")
    sources = [{"path": "p.jsonl"}, {"path": "q.jsonl", "kind": "chat", "system_prompt": "Be kind.", "dataset": "q"}]
    caps = {"train": 2, "validation": None, "test": 2}
    return collect_prompts(
        [PromptSource(**source) for source in sources], {"train": 0.5, "validation": 0.2, "test": 0.3}, caps, folder
    )


def golden_heuristics(_):
    return [HEURISTICS, learned_heuristic("samplers/SamplingNetwork/a0.7_b0.3_c0_top2")]


REPLIES = [
    "<response><text>One</text><probability>0.2</probability></response> <response><text>Two</text><probability>60%",
    '[{"text": "One", "probability": 0.2}, {"text": "Two", "probability": "1/2"}, {"text": "Thr',
    "Sure:\n1. (0.1) One\n2. (0.3) Two\n3. one\n\n4. Four",
    "One, I think.",
]


STATEFUL = {"mirostat": {"tau": 2.0, "eta": 0.3}, "annealed_temperature": {"highest": 2.0, "lowest": 0.3, "decay": 1.0}}


def golden_generation(_):
    """What the transformers engine does at a token: sort, process, draw; and what is drawn from replies."""
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
    asking, entry = Asking(3, None, TEMPLATE), {"answers": 3, "max_new_tokens": None, "template": TEMPLATE}
    replies = [
        asking.read(Completion(0, text=text, finish_reason=reason), sample_seed(20260101, "a", 3)).describe()
        for text in REPLIES
        for reason in ("stop", "length")
    ]
    replies += [asking.messages(json.loads(PROMPTS["messages"][0])), asking.limit(10)]
    replies += expand_heuristics(Heuristics(verbalized=[{**entry, "pipeline": [{"temperature": 0.7}]}]))
    probabilities = apply_to_logits(logits[: len(pipelines)], pipelines[: len(logits)]).softmax(-1).tolist()
    return [chosen, kept, probabilities, replies]


def golden_engine(folder: Path):
    """What the real engine answers with a tiny model: all of it, and then a part beside what was answered before."""
    learned = folder / "samplers" / "LocalProbabilityTransform" / "a0_b1_c0_top2"
    build_sampler("LocalProbabilityTransform", {"hidden_dims": 6}, seed=1).save_pretrained(learned)
    asking = {"answers": 2, "max_new_tokens": 12, "template": "{answers}: {prompt}", "pipeline": [{"top_p": 0.9}]}
    heuristics = expand_heuristics(
        Heuristics(grid=GRID, pipelines=[[{name: setting}] for name, setting in STATEFUL.items()], verbalized=[asking])
    )
    heuristics = pd.DataFrame([*heuristics, learned_heuristic(str(learned.relative_to(folder)))])
    long = json.dumps([{"role": "user", "content": "sea " * 200}])
    prompts = pd.concat([PROMPTS[:3], PROMPTS[:1].assign(prompt_id="long", messages=long)], ignore_index=True)
    limits = {"creative": 9, "verifiable": 5, "factual": 7}
    # Under this seed no draw is so near a boundary that weights changed by 3e-6 of themselves would draw otherwise;
    # processors differ by about as much as weights changed by 1e-7.
    settings = GenerationSettings(run_seed=8, max_new_tokens=limits, stop=("past", "sea"), dtype="float32")
    # In such a batch a prompt is admitted while answers to another one are under way.
    engine = TransformersEngine(LanguageModel(language_model(folder), device="cpu"), batch_size=30)
    with chdir(folder):  # a learned sampler's id follows from its path
        generate(prompts, heuristics, [0, 3], engine, "hash", settings, folder / "all")
        rows = {("b", name, 3) for name in heuristics["heuristic_id"]} | {("a", heuristics["heuristic_id"][0], 4)}
        generate(prompts, heuristics, [3, 4], engine, "hash", settings, folder / "few", rows, [folder / "all"])
    return [read_table("candidates_with_replies", folder / name) for name in ("all", "few")]


def golden_explanation(folder: Path):
    """What is shown of an answer of a tiny model, and the page that shows it but for its script and style."""
    learned = folder / "samplers" / "LocalProbabilityTransform" / "a0_b1_c0_top2"
    build_sampler("LocalProbabilityTransform", {"hidden_dims": 6}, seed=1).save_pretrained(learned)
    sampler, chain = sampler_ways(str(learned), [])[0], chain_way(configured_pipeline([{"top_p": 0.9}]))
    stateful = [chain_way(configured_pipeline([{name: setting}])) for name, setting in STATEFUL.items()]
    mixture = Mixture("set", {chain.pipeline: 0.25, stateful[0].pipeline: 0.75})
    others = [*families(Heuristics(grid=GRID)), *stateful]
    asked = Asked([{"role": "user", "content": "The sea"}], [chain, sampler], others, sampler, mixture, tokens=6, top=5)
    explanation = explain(LanguageModel(language_model(folder), device="cpu"), asked)
    explanation_page(explanation, "tiny", folder / "page.html")
    data = re.search(r"id='data'>(.*?)</script>", (folder / "page.html").read_text(encoding="utf-8"))[1]
    # As text, floats would be compared by their digits.
    lines = re.sub(r"\d+\.\d+|\u221e", "#", as_text(explanation)).splitlines()
    return [json.loads(data), [line.split() for line in lines]]


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
    weights = [{"quality": 1.0}, {"diversity": 0.2, "quality": 0.8}]
    settings = AdaptiveBudgets(
        first_seeds=2, budget=0.6, top=1, confidence=0.9, keep=2, keep_share=0.5, weights=weights
    )
    files = folder / "scores.parquet", folder / "quality.parquet"
    first = read_first_phase(*files, prompts, FEW, [0, 1], settings.weights, correct_only=True)
    report = folder / "report.json"
    allocate_budget(first, prompts, FEW, [0, 1, 2, 3, 4], settings, folder / "allocation.parquet", report)
    return [read_table("allocation", folder / "allocation.parquet"), read_json(report)]


def golden_policy_samples(folder: Path):
    one = candidates()[lambda rows: rows["heuristic_id"] == FEW["heuristic_id"][0]]
    write_table("candidates", one, folder / "candidates.parquet")
    gather_policy_samples(folder / "candidates.parquet", PROMPTS, "golden", folder / "samples.parquet")
    generation = {"max_new_tokens": 9, "stop": ["x"], "sampling": [{"top_p": 0.9}]}
    write_formats(folder / "samples.parquet", PROMPTS, generation, folder / "formats")
    texts = {path.name: path.read_text() for path in sorted((folder / "formats").rglob("*.js*"))}
    return read_table("policy_samples", folder / "samples.parquet"), texts


def golden_iteration(folder: Path):
    one = candidates()[lambda rows: rows["heuristic_id"] == FEW["heuristic_id"][0]]
    write_table("candidates", one, folder / "candidates.parquet")
    as_contestants(folder / "candidates.parquet", folder / "contestants.parquet")
    return contestants(FEW[:1], 3), read_table("candidates", folder / "contestants.parquet")


def golden_rescoring(folder: Path):
    write_table("candidates", candidates(), folder / "candidates.parquet")
    model = LanguageModel(language_model(folder), device="cpu")
    rescore(folder / "candidates.parquet", model, model, 5, folder / "rescored.parquet")
    return read_table("candidates", folder / "rescored.parquet")


def golden_slice(_):
    steps = [{"temperature": 0.8}, {"top_p": 0.9}]
    return slice_prompts(PROMPTS, ["train", "test"], 1, 2), sampling_heuristics(steps)
