"""Every stage's output on a small fixed input, for test_stage_versions.py: functions of a folder to work in."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from adaptive_samplers.budgets import BudgetSettings, allocate_budget, read_first_round
from adaptive_samplers.engines import Completion
from adaptive_samplers.evaluation import compare_samplers, paired_differences, write_tables
from adaptive_samplers.files import read_json
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
from adaptive_samplers.heuristics.pipelines import TEMPLATE
from adaptive_samplers.label_summary import labels_page, summarize_labels
from adaptive_samplers.labels.combination import combine_quality, combined_report
from adaptive_samplers.labels.correctness import label_correctness
from adaptive_samplers.labels.diversity import label_diversity
from adaptive_samplers.labels.judges.feature_reward import FeatureReward, feature_reward_judge, train_feature_reward
from adaptive_samplers.labels.judges.features import FEATURES, texts_to_embed
from adaptive_samplers.labels.overlap import LocalTracer, build_index, label_overlap
from adaptive_samplers.labels.quality import label_quality
from adaptive_samplers.labels.verifiers import Verification
from adaptive_samplers.pages import comparison_page, completeness_page, judge_page
from adaptive_samplers.policies.formats import write_formats
from adaptive_samplers.policies.prompts import slice_prompts
from adaptive_samplers.policies.rounds import as_contestants, contestants, plan_rounds
from adaptive_samplers.policies.samples import gather_policy_samples, sampling_heuristics
from adaptive_samplers.preferences import (
    FORMATS,
    Outputs,
    PreferenceSettings,
    dataset_card,
    file_name,
    make_preferences,
    write_format,
)
from adaptive_samplers.preferences.decontamination import Overlap
from adaptive_samplers.probes import probe_distributions
from adaptive_samplers.prompts import collect_prompts
from adaptive_samplers.randomness import sample_seed, uniforms
from adaptive_samplers.repeated_sampling.final_answers import extract_final_answers
from adaptive_samplers.repeated_sampling.measure import Samples, fit_power_laws, measure_repeated_sampling
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
from adaptive_samplers.verbalized.asking import Asking
from adaptive_samplers.verification import verify_candidates
from support import need_tokengrams

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


REPLIES = [
    "<response><text>One</text><probability>0.2</probability></response> <response><text>Two</text><probability>60%",
    '[{"text": "One", "probability": 0.2}, {"text": "Two", "probability": "1/2"}, {"text": "Thr',
    "Sure:\n1. (0.1) One\n2. (0.3) Two\n3. one\n\n4. Four",
    "One, I think.",
]


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
    replies += expand_heuristics([], [], None, [{**entry, "pipeline": [{"temperature": 0.7}]}])
    probabilities = apply_to_logits(logits[: len(pipelines)], pipelines[: len(logits)]).softmax(-1).tolist()
    return [chosen, kept, probabilities, replies]


def golden_verification(folder: Path):
    table = candidates()
    changed = pd.concat([table[table.index != 3], table[20:21]])
    write_table("candidates", changed, folder / "shard.parquet")
    verify_candidates(
        [folder / "shard.parquet"], PROMPTS, FEW, [0, 1, 2], 1.0, folder / "all.parquet", folder / "report.json"
    )
    return [read_table("candidates", folder / "all.parquet"), read_json(folder / "report.json")]


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


def golden_combination(folder: Path):
    results = []
    for number, name in enumerate(("one", "two", "three")):
        table = pd.DataFrame(KEYS, columns=KEY).assign(
            rating=2 * wave(len(KEYS), number), rating_stderr=0.5, reward=1.0
        )
        table.loc[4 + number, ["rating", "rating_stderr"]] = np.nan
        table["comparisons"] = 3
        write_table("quality", table, folder / f"{name}.parquet")
    tables = {name: folder / f"{name}.parquet" for name in ("one", "two", "three")}
    for method in ("first", "mean"):
        found = combine_quality(tables, method, folder / "quality.parquet")
        reports = {name: {"calls": 3, "judge": {"kind": "x"}} for name in tables}
        results += [read_table("quality", folder / "quality.parquet"), combined_report(reports, method, found)]
    return results


def golden_index(folder: Path):
    need_tokengrams()
    build_index([[1, 2, 3, 4], [], [3, 4, 5]], folder / "index", 9)
    metadata = read_json(folder / "index" / "metadata.json")
    del metadata["tokengrams"]
    return [metadata, (folder / "index" / "tokens.bin").read_bytes().hex()]


def golden_overlap(folder: Path):
    need_tokengrams()
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


TRAINING = {
    "learning_rate": 0.01,
    "batch_size": 8,
    "steps": 6,
    "warmup_steps": 2,
    "evaluate_every": 3,
    "gamma": 1.0,
    "weight_decay": 0.01,
    "gradient_clip": 1.0,
    "patience": None,
    "precision": "float32",
}


def golden_training(folder: Path):
    training_set, path = replayed(folder)
    steps = token_steps(training_set, [path])
    results = [steps.target[::9].tolist()]
    architectures = {
        "LocalProbabilityTransform": {"hidden_dims": 6},
        "SimpleDistributionAwareTransform": {"hidden_dims": 6, "use_dynamic_truncation": True},
        "SamplingNetwork": {"d_model": 4, "d_ff": 6, "n_blocks": 1, "n_heads": 2, "scale": True},
    }
    settings = TrainingSettings.from_config(TRAINING, seed=1)
    for architecture, config in architectures.items():
        sampler = build_sampler(architecture, config, seed=1)
        trained = train(sampler, steps, steps, settings, folder / architecture)
        results.append(
            [architecture, trained.best_step, evaluate(trained.sampler, steps, settings.loss), trained.curves]
        )
    return results


def golden_learnability(folder: Path):
    training_set, path = replayed(folder)
    ids = sorted(set(training_set["answer_id"]))
    splits = {answer: ("train", "validation", "test")[place % 3] for place, answer in enumerate(ids)}
    return learn_heuristic(
        training_set.assign(split=training_set["answer_id"].map(splits)),
        [path],
        configured_pipeline([{"top_k": 3}]),
        "LocalProbabilityTransform",
        {"hidden_dims": 6},
        TRAINING,
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


def golden_labels(folder: Path):
    """What is said of the labels of the golden answers, and the page of it."""
    quality, diversity, correctness = label_tables()
    more = dict(
        zip(("distinct_1", "distinct_2", "distinct_3", "compression_ratio"), (0.5, 0.75, 1.0, 1.5), strict=True)
    )
    labels = {
        "quality": quality.assign(rating_stderr=0.5, comparisons=3, reward=None),
        "diversity": diversity.assign(**more, group_size=3),
        "correctness": correctness.assign(verifier="numeric", detail="found <5>", error=None),
    }
    tables = {name: folder / f"{name}.parquet" for name in ("candidates", *labels)}
    for name, table in {"candidates": candidates(), **labels}.items():
        write_table(name, table, tables[name])
    return summarize_labels(tables, PROMPTS, FEW)


def golden_labels_page(folder: Path):
    summary, _ = golden_labels(folder)
    for figure in ("distributions", "correlations"):
        (folder / figure).write_bytes(figure.encode())
    figures = {figure: folder / figure for figure in ("distributions", "correlations")}
    tournaments = {"groups": 3, "calls": 8, "failed": 1, "judge": {"kind": "x", "position_bias": 0.25}}
    labels_page(summary, tournaments, "vendi_score", figures, folder / "l.html")
    return (folder / "l.html").read_text(encoding="utf-8")


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


def final_answers(folder: Path) -> pd.DataFrame:
    output = folder / "final_answers.parquet"
    if not output.exists():
        write_table("candidates", candidates(), folder / "candidates.parquet")
        extract_final_answers(folder / "candidates.parquet", PROMPTS, output, 1.0, Verification())
    return read_table("final_answers", output)


def golden_repeated_sampling(folder: Path):
    correctness, answers = golden_correctness(folder), final_answers(folder)
    quality = correctness[KEY].assign(reward=wave(len(correctness), 2.0))
    samples = Samples.from_tables(correctness, quality, answers, FEW, [0, 1, 2])
    laws = fit_power_laws(samples, FEW, [1, 2])
    return [measure_repeated_sampling(samples, FEW, [1, 2], 0.9, "dirichlet", 100, 0.9, 3), laws]


def golden_correctness(folder: Path) -> pd.DataFrame:
    write_table("candidates", candidates(), folder / "candidates.parquet")
    output = folder / "correctness.parquet"
    label_correctness(folder / "candidates.parquet", PROMPTS, output, 0.0, Verification())
    return read_table("correctness", output)


def golden_policy_samples(folder: Path):
    one = candidates()[lambda rows: rows["heuristic_id"] == FEW["heuristic_id"][0]]
    write_table("candidates", one, folder / "candidates.parquet")
    gather_policy_samples(folder / "candidates.parquet", PROMPTS, "golden", folder / "samples.parquet")
    generation = {"max_new_tokens": 9, "stop": ["x"], "sampling": [{"top_p": 0.9}]}
    write_formats(folder / "samples.parquet", PROMPTS, generation, folder / "formats")
    texts = {path.name: path.read_text() for path in sorted((folder / "formats").rglob("*.js*"))}
    return read_table("policy_samples", folder / "samples.parquet"), texts


def golden_round(folder: Path):
    one = candidates()[lambda rows: rows["heuristic_id"] == FEW["heuristic_id"][0]]
    write_table("candidates", one, folder / "candidates.parquet")
    as_contestants(folder / "candidates.parquet", folder / "contestants.parquet")
    return contestants(FEW[:1], 3), read_table("candidates", folder / "contestants.parquet")


def golden_slice(_):
    steps = [{"temperature": 0.8}, {"top_p": 0.9}]
    return slice_prompts(PROMPTS, ["train", "test"], 1, 2), sampling_heuristics(steps)


PREFERENCES = [
    PreferenceSettings(splits=("train", "validation", "test")),
    PreferenceSettings(
        splits=("validation", "test"),
        group="prompt",
        correctness="agree",
        pairing="best_random",
        rejection_beta=2.0,
        length_control="ratio",
        length_ratio=4.0,
        threshold="mean",
        threshold_scope="all",
    ),
]


def preferences_of(folder: Path, settings: PreferenceSettings) -> tuple[dict, Outputs]:
    """The report and the files of a small run's preferences."""
    quality, _, correctness = label_tables()
    quality = quality.assign(reward=quality["rating"] + 1)
    correctness = correctness.assign(verifier=correctness["score"].map(lambda score: None if score != score else "x"))
    outputs = Outputs(folder / "pairs.parquet", folder / "answers.parquet", folder / "dropped.jsonl")
    tables = (PROMPTS, FEW, quality, correctness)
    report = make_preferences(*tables, lambda: [candidates()], {"a": Overlap("of a", "e")}, settings, 7, outputs)
    return report, outputs


def golden_preferences(folder: Path):
    results = []
    for settings in PREFERENCES:
        report, outputs = preferences_of(folder, settings)
        tables = [read_table(f"preference_{name}", getattr(outputs, name)) for name in ("pairs", "answers")]
        results += [report, *(table.drop(columns="prompt") for table in tables), outputs.dropped.read_text()]
    return results


def golden_exports(folder: Path):
    _, outputs = preferences_of(folder, PREFERENCES[0])
    texts = []
    for name in FORMATS:
        write_format(name, outputs.pairs, outputs.answers, folder / file_name(name))
        texts.append((folder / file_name(name)).read_text())
    return texts


def golden_card(folder: Path):
    report, outputs = preferences_of(folder, PREFERENCES[1])
    write_format("pairs", outputs.pairs, outputs.answers, folder / "pairs.jsonl")
    model = {"name": "m", "source": {"kind": "hub", "repo": "a/m"}, "model_hash": "f0", "license": "CC0-1.0"}
    judges, origin = [{"kind": "scalar", "name": "m"}], {"versions": {"python": "3"}, "commit": "c"}
    engines = [{"engine": "golden", "versions": None}]
    arguments = (PREFERENCES[1], PROMPTS, FEW, [0, 1, 2], {"answered": model}, judges, engines, origin)
    return dataset_card("golden", None, report, *arguments, [folder / "pairs.jsonl"])


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


GOLDEN = {
    "allocate_budget": golden_allocation,
    "collect_prompts": golden_prompts,
    "expand_heuristics": golden_heuristics,
    "generate_candidates": golden_generation,
    "verify_candidates": golden_verification,
    "train_judge": golden_judge,
    "label_quality": golden_quality,
    "combine_quality": golden_combination,
    "label_diversity": lambda _: label_diversity(candidates(), embeddings(TEXTS)),
    "label_correctness": golden_correctness,
    "index_corpus": golden_index,
    "label_overlap": golden_overlap,
    "score_candidates": golden_scores,
    "select_training_set": golden_selection,
    "summarize_selection": golden_summary,
    "summarize_labels": golden_labels,
    "tabulate_labels": golden_labels_page,
    "replay_distributions": golden_replay,
    "train_sampler": golden_training,
    "learn_heuristic": golden_learnability,
    "compare_samplers": golden_comparison,
    "make_preferences": golden_preferences,
    "export_preferences": golden_exports,
    "describe_preferences": golden_card,
    "extract_final_answers": final_answers,
    "measure_repeated_sampling": golden_repeated_sampling,
    "probe_distributions": golden_probes,
    "slice_prompts": golden_slice,
    "gather_policy_samples": golden_policy_samples,
    "plan_rounds": lambda _: [
        plan_rounds(PROMPTS, ["train", "test"], 0, size, most) for size in (1, 2) for most in (2, None)
    ],
    "gather_round": golden_round,
    "tables": golden_tables,
}
WITHOUT_GOLDEN = {
    "score_round": "log-probabilities are a language model's; test_policy_rounds compares them with a tiny model's own",
    "train_policy": "what is trained is the user's command's; test_policy_rounds looks at what the command is told",
    "embed_candidates": "the vectors are an embedding model's, and a model is too large for a test of seconds",
    "figures": "what matplotlib draws differs from one version to the next; test_figures looks at what is in them",
}
