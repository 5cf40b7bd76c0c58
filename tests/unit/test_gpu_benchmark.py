"""The benchmark on a GPU, where there is none."""

import importlib
import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adaptive_samplers.samplers import build_sampler
from adaptive_samplers.samplers.passes import passes_for
from support import REPOSITORY

SMALL_NETWORK = {"d_model": 16, "d_ff": 24, "n_blocks": 1}


@pytest.fixture
def gpu_benchmark(monkeypatch) -> Any:
    monkeypatch.syspath_prepend(str(REPOSITORY / "bench"))
    return importlib.import_module("gpu")


def test_benchmark_says_that_there_is_no_gpu(gpu_benchmark, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    output = tmp_path / "results.json"
    assert gpu_benchmark.main(["--output", str(output), "--batches", "1", "4"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "no CUDA device" in captured.err
    assert not captured.out and not output.exists()


def test_benchmark_takes_batches(gpu_benchmark):
    assert gpu_benchmark.parse([]).batches == [1, 16, 64]
    assert gpu_benchmark.parse(["--batches", "2", "3"]).batches == [2, 3]
    with pytest.raises(SystemExit):
        gpu_benchmark.parse(["--batches", "many"])


@pytest.mark.parametrize("wrong", [None, "condense", "spread", "draw"])
def test_benchmark_compares_results_before_it_measures(gpu_benchmark, wrong):
    sampler = build_sampler("SamplingNetwork", SMALL_NETWORK, seed=0).eval()
    logits = gpu_benchmark.logits_like_a_language_models(3, 4000, "cpu")
    assert logits.dtype == torch.bfloat16 and logits.shape == (3, 4000)
    served = passes_for(logits.device)
    wrong_results = {
        "condense": lambda logits, *rest: served.condense(logits.float() * 1.01, *rest),
        "spread": lambda logits, *rest: served.spread(logits, *rest) * 1.01,
        "draw": lambda logits, *rest: served.draw(logits, *rest) + 1,
    }
    functions = {name: getattr(served, name) for name in wrong_results}
    if wrong:
        functions[wrong] = wrong_results[wrong]
    found = gpu_benchmark.disagreements(sampler, sampler, logits, SimpleNamespace(**functions))
    words = {None: "", "condense": "condensed", "spread": "output logits", "draw": "drawn tokens"}[wrong]
    assert (not found) if wrong is None else any(words in sentence for sentence in found)


@pytest.fixture
def trying_out(tmp_path) -> list[str]:
    """The benchmark's options where it is tried out without a GPU."""
    output = str(tmp_path / "results.json")
    return ["--device", "cpu", "--vocabulary", "1000", "--repeats", "2", "--batches", "1", "3", "--output", output]


def test_benchmark_writes_the_rows_of_the_other_benchmarks(gpu_benchmark, trying_out, tmp_path, capsys):
    assert gpu_benchmark.main(trying_out) == 0
    rows = json.loads((tmp_path / "results.json").read_text())
    names = [name for name in ("core/cpu_logits", "core/cpu_sample", "core/cpu_many_heuristics") for _ in range(2)]
    assert [(row["name"], row["batch"]) for row in rows] == [(name, batch) for batch in (1, 3) for name in names]
    keys = {"name", "against", "baseline", "ours", "ratio", "unit", "batch", "vocabulary", "threads", "hardware"}
    assert all(set(row) == keys | {"versions", "passes", "allow_tf32"} for row in rows)
    assert all(row["ratio"] == row["baseline"] / row["ours"] and row["ours"] > 0 for row in rows)
    assert len({(row["name"], row["against"], row["batch"]) for row in rows}) == len(rows)
    assert {(row["vocabulary"], row["passes"]) for row in rows} == {(1000, "numba_passes")}
    assert f"written to {tmp_path / 'results.json'}" in capsys.readouterr().out


def test_benchmark_reports_nothing_where_results_are_wrong(gpu_benchmark, trying_out, tmp_path, capsys):
    samplers = {
        suffix: build_sampler("SamplingNetwork", SMALL_NETWORK, seed=seed).eval()
        for seed, suffix in enumerate(("", "_other_network"))
    }
    options = gpu_benchmark.parse(trying_out)
    assert gpu_benchmark.compare_and_measure(samplers, passes_for(torch.device("cpu")), options) == 1
    assert "total variation from the network on every token" in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()
