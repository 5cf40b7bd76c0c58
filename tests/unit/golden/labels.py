"""Golden outputs of the stages that label answers, and of those that say what labels there are."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from adaptive_samplers.config.model.labels import Tournament
from adaptive_samplers.files import read_json
from adaptive_samplers.label_summary import labels_page, summarize_labels
from adaptive_samplers.labels.combination import combine_quality, combined_report
from adaptive_samplers.labels.correctness import label_correctness
from adaptive_samplers.labels.judges.feature_reward import (
    TEXT_FEATURES,
    FeatureReward,
    feature_reward_judge,
    train_feature_reward,
)
from adaptive_samplers.labels.judges.features import texts_to_embed
from adaptive_samplers.labels.judges.registry import DEFAULT_FEATURES
from adaptive_samplers.labels.overlap import LocalTracer, build_index, label_overlap
from adaptive_samplers.labels.quality import label_quality
from adaptive_samplers.labels.verifiers import Verification
from adaptive_samplers.measures import DIVERSITY_MEASURES
from adaptive_samplers.repeated_sampling.final_answers import extract_final_answers
from adaptive_samplers.repeated_sampling.measure import Samples, fit_power_laws, measure_repeated_sampling
from adaptive_samplers.tables import KEY, read_table, write_table
from golden.inputs import FEW, KEYS, PROMPTS, WORDS, candidates, decode, embeddings, label_tables, wave
from support import in_whole, need_tokengrams


def golden_judge(_, names=DEFAULT_FEATURES):
    rows = []
    for number in range(24):
        better, worse = wave(4, number), wave(4, number + 0.5) - 0.3
        row = {"prompt": f"p{number % 8}", "corruption": ["shuffled", "repeated"][number % 2]}
        for side, features in (("chosen", better), ("rejected", worse)):
            row |= {f"{side}_{name}": value for name, value in zip(names, features, strict=True)}
        rows.append(row)
    model, report = train_feature_reward(pd.DataFrame(rows), 0.1, names)
    report = {key: value for key, value in report.items() if key != "limits"}
    return [model.weights, model.means, model.scales, report]


def golden_quality(_, names=DEFAULT_FEATURES):
    reward = FeatureReward(np.array([1.0, 0.5, 0.25, 2.0]), np.zeros(4), np.ones(4), names)
    table = candidates()
    vectors = embeddings(texts_to_embed(PROMPTS, table))
    results = []
    for schedule in ("swiss", "round_robin"):
        tournament = Tournament(schedule=schedule, rounds=2 if schedule == "swiss" else None, regularization=0.1)
        judge = feature_reward_judge(reward, PROMPTS, lambda texts: vectors, decode)
        results += in_whole(label_quality, [table], judge, tournament, 0.0, seed=7)
    return results


golden_text_judge = partial(golden_judge, names=TEXT_FEATURES)
golden_text_quality = partial(golden_quality, names=TEXT_FEATURES)


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
    return in_whole(label_overlap, [candidates()], LocalTracer(folder / "index"), 2, 0.0)


def golden_correctness(folder: Path) -> pd.DataFrame:
    write_table("candidates", candidates(), folder / "candidates.parquet")
    output = folder / "correctness.parquet"
    label_correctness(folder / "candidates.parquet", PROMPTS, output, 0.0, Verification())
    return read_table("correctness", output)


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


def write_label_tables(folder: Path) -> dict[str, Path]:
    """Files of the golden answers and of their labels."""
    quality, diversity, correctness = label_tables()
    more = {"distinct_1": 0.5, "distinct_2": 0.75, "distinct_3": 1.0, "compression_ratio": 1.5}
    more = {name: more.get(name, 2.0) for name in DIVERSITY_MEASURES if name not in diversity}
    labels = {
        "quality": quality.assign(rating_stderr=0.5, comparisons=3, reward=None),
        "diversity": diversity.assign(**more, group_size=3),
        "correctness": correctness.assign(verifier="numeric", detail="found <5>", error=None),
    }
    tables = {name: folder / f"{name}.parquet" for name in ("candidates", *labels)}
    for name, table in {"candidates": candidates(), **labels}.items():
        write_table(name, table, tables[name])
    return tables


def golden_labels(folder: Path):
    """What is said of the labels of the golden answers."""
    tables = write_label_tables(folder)
    return summarize_labels(tables, PROMPTS, FEW, {"one": tables["quality"]})


def golden_labels_page(folder: Path):
    summary, _ = golden_labels(folder)
    for figure in ("distributions", "correlations"):
        (folder / figure).write_bytes(figure.encode())
    figures = {figure: folder / figure for figure in ("distributions", "correlations")}
    tournaments = {"groups": 3, "calls": 8, "failed": 1, "judge": {"kind": "x", "position_bias": 0.25}}
    labels_page(summary, tournaments, "vendi_score", figures, folder / "l.html")
    return (folder / "l.html").read_text(encoding="utf-8")
