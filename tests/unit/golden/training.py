"""Golden outputs of the stages from scores to trained samplers, and of what is said of those."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
from outcome_world import World

from adaptive_samplers.config.model.off_policy import OffPolicy
from adaptive_samplers.config.model.on_policy import OnPolicy
from adaptive_samplers.config.model.training import Training
from adaptive_samplers.evaluation import compare_samplers, paired_differences
from adaptive_samplers.files import read_json
from adaptive_samplers.grid import Grid
from adaptive_samplers.heuristics import configured_pipeline
from adaptive_samplers.off_policy.estimates import log_mixture, weigh
from adaptive_samplers.off_policy.log_probs import log_probs_of_beginnings
from adaptive_samplers.off_policy.shards import SketchShard
from adaptive_samplers.off_policy.table import LeftOut, Weighings, calibrate, table_of_estimates
from adaptive_samplers.pages import comparison_page, completeness_page, judge_page
from adaptive_samplers.portraits.families import chains
from adaptive_samplers.portraits.portray import FITTED, MEASURED, Intervals, portray
from adaptive_samplers.portraits.states import read_states
from adaptive_samplers.probes import probe_distributions
from adaptive_samplers.rendering import write_tables
from adaptive_samplers.samplers import ARCHITECTURES, build_sampler, evaluated
from adaptive_samplers.selection import (
    filtered_answers,
    filtering_reasons,
    filtering_report,
    marginals,
    score_candidates,
    select_training_set,
)
from adaptive_samplers.tables import to_arrow
from adaptive_samplers.training import TrainingSettings, evaluate, train
from adaptive_samplers.training.learnability import learn_heuristic
from adaptive_samplers.training.on_policy import Answers, improve
from adaptive_samplers.training.replay import answers_of_shard, replay, token_steps
from adaptive_samplers.training.train_on_outcomes import train_on_outcomes
from golden.inputs import FEW, HEURISTICS, PROMPTS, FixedModel, FixedWords, candidates, label_tables, training_rows


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
        shard.token_ids.tolist(),
        *(shard.draws.to_tensors()[name].tolist() for name in ("starts", "ranks", "log_probs")),
        shard.draws.sketch.t[few].tolist(),
        shard.draws.sketch.n[few].tolist(),
    ]


TRAINING = Training(learning_rate=0.01, batch_size=8, steps=6, warmup_steps=2, evaluate_every=3, patience=None)


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
        measured = evaluate(trained.sampler, steps, settings.loss)
        results.append([architecture, trained.best_step, measured, trained.curves])
    return results


def outcomes() -> World:
    """Prompts in a world that three heuristics answered."""
    return World.drawn(6, 4, seed=1, vocabulary=60)


BEHAVIORS = {name: configured_pipeline([{"temperature": name}]) for name in (0.5, 1.0, 1.5)}


def golden_outcomes(folder: Path):
    logged = {split: outcomes().logged(BEHAVIORS, 2, seed) for seed, split in enumerate(("train", "validation"))}
    results = []
    for kind in ("outcome", "best_answers", "pairs"):
        [objective] = Training(objectives=[{"kind": kind, "steps": 3, "start_steps": 4, "horizon": 3}]).objectives
        options = ARCHITECTURES["LocalProbabilityTransform"].options(hidden_dims=6)
        weights = {"diversity": 0.0, "quality": 1.0, "correctness": 0.0}
        arguments = (logged, weights, objective, "LocalProbabilityTransform", options, TRAINING, 1)
        train_on_outcomes(*arguments, folder / kind)
        results.append([read_json(folder / kind / "metrics.json"), pd.read_csv(folder / kind / "curves.csv")])
    return results


def golden_on_policy(folder: Path):
    """With answers that are the same whatever the sampler has learned: what it draws may turn on the last digit."""
    sampler = build_sampler("LocalProbabilityTransform", {"hidden_dims": 6}, seed=1)
    behaviors = {1.0: BEHAVIORS[1.0]}
    options = OnPolicy(steps=3, updates=2, kl=0.1, evaluate_every=2, learning_rate=0.01)
    curves = improve(
        sampler,
        lambda _, step: Answers(outcomes().logged(behaviors, 4, seed=step), 0),
        lambda sampler, _: float(outcomes().value(sampler).mean()),
        options,
        1.0,
        "golden",
        folder / "checkpoint.safetensors",
    )
    return pd.DataFrame(curves)


def golden_front(folder: Path):
    """Of a sampler that takes a preference, for each of the two fronts."""
    logged = {
        split: outcomes().logged(BEHAVIORS, 2, seed, embedded=True)
        for seed, split in enumerate(("train", "validation"))
    }
    name = "ConditionedSamplingNetwork"
    options = ARCHITECTURES[name].options(d_model=4, d_ff=6, n_blocks=1, n_heads=2, d_preference=3)
    weights = {"diversity": 0.0, "quality": 1.0, "correctness": 0.0}
    results = []
    for front in ("diversity", "best_of"):
        chosen = {"kind": "outcome", "front": front, "best_of": 2, "steps": 3, "start_steps": 4, "horizon": 3}
        [objective] = Training(objectives=[chosen]).objectives
        train_on_outcomes(logged, weights, objective, name, options, TRAINING, 1, folder / front)
        results.append([read_json(folder / front / "metrics.json"), pd.read_csv(folder / front / "curves.csv")])
    return results


def golden_estimates(_):
    logged = outcomes().logged(BEHAVIORS, 2, seed=0)
    log_probs = log_probs_of_beginnings([*BEHAVIORS.values()], logged.draws, [2, None], logged.same).numpy()
    mixture = log_mixture(logged.answers, log_probs)
    weighted = [weigh(logged.answers, log_probs[:, :, at], mixture[:, at]) for at in range(2)]
    names = [str(name) for name in BEHAVIORS]
    left_out = [[one.select(np.arange(6)) for _ in names] for one in weighted]
    own = np.arange(18.0).reshape(3, 6) / 18
    halves = [LeftOut(own, left_out), LeftOut(1 - own, left_out)]
    weighings = Weighings(np.array(["train"] * 6), names, names, weighted, halves, names, own - 0.5)
    settings = OffPolicy(resamples=50, trust={"mean_weight": 5.0})
    return [
        calibrate(weighings, [2, None], 50, 0.9, seed=1),
        table_of_estimates(weighings, [2, None], [1.0, 1.0], settings, seed=1),
    ]


def golden_learnability(folder: Path):
    training_set, path = replayed(folder)
    ids = sorted(set(training_set["answer_id"]))
    splits = {answer: ("train", "validation", "test")[place % 3] for place, answer in enumerate(ids)}
    return learn_heuristic(
        training_set.assign(split=training_set["answer_id"].map(splits)),
        [path],
        configured_pipeline([{"top_k": 3}]),
        "LocalProbabilityTransform",
        ARCHITECTURES["LocalProbabilityTransform"].options(hidden_dims=6),
        TrainingSettings.from_config(TRAINING, seed=1),
        checkpoint=folder / "checkpoint",
    )


def golden_portrait(folder: Path):
    """Without what is found by search, which may turn on the last digit."""
    training_set, path = replayed(folder)
    states = read_states(training_set.assign(split="train"), [path], (FITTED,), 30, seed=1)
    states[MEASURED] = states[FITTED]
    saved = folder / "SimpleDistributionAwareTransform" / "a0_b1_c0_top2"
    build_sampler(saved.parent.name, {"hidden_dims": 6}, seed=1).save_pretrained(saved)
    [row] = evaluated(str(saved), [])
    with patch("adaptive_samplers.portraits.portray.chains", lambda: [("temperature",)]):
        portrait = portray(row, states, Intervals(resamples=20, confidence=0.9, seed=1))
    found = [{name: row[name] for name in ("chain", "kl", "kl_low", "kl_raw")} for row in portrait["heuristics"]]
    forms = [{name: row[name] for name in ("knots", "statistics", "kl_raw")} for row in portrait["closed_forms"]]
    learned = [row for row in portrait["effects"] if row["of"] != "closest heuristic"]
    return [chains(), found, forms, learned, portrait["statistics"]]


def golden_probes(folder: Path):
    training_set = training_rows(folder).assign(split="test")
    return probe_distributions(training_set, PROMPTS, FixedWords(), {}, 3)


def comparison_inputs():
    keys = [(f"p{i}", heuristic, seed) for i in range(6) for heuristic in FEW["heuristic_id"] for seed in (0, 1)]
    heuristics = FEW.copy()
    heuristics.loc[3, "family"] = "learned"
    settings = {"objectives": ["quality", "self_bleu", "correctness"], "resamples": 50, "confidence": 0.9, "seed": 3}
    return (*label_tables(keys), heuristics), settings


def golden_comparison(_):
    tables, settings = comparison_inputs()
    return [compare_samplers(*tables, **settings), paired_differences(*tables, **settings)]


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
    row = {"judge": "feature_reward", "measure": "rating", "prompts": 3, "answers": 9, "slope": 2.0, "r_squared": 0.5}
    likelihood = [row | {f"{name}_{end}": 0.25 for name in ("slope", "r_squared") for end in ("low", "high")}]
    judge_page(tournaments, likelihood, {"feature_reward": judge}, folder / "e.html")
    return [(folder / name).read_text(encoding="utf-8") for name in ("c.csv", "c.tex", "c.html", "d.html", "e.html")]
