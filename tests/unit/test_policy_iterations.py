"""Iterations of alignment: the plan, tournaments between samples, the training command, and what it leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import read_json
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.policies.command import filled_in, variable
from adaptive_samplers.policies.iterations import as_contestants, contestants, plan_iterations
from adaptive_samplers.policies.rescoring import rescore
from adaptive_samplers.policies.samples import sampling_heuristics
from adaptive_samplers.policies.update import adopt_policy, train_policy, training_seed
from adaptive_samplers.tables import KEY, read_table, write_table
from support import REPOSITORY, processes_with, wait_until

# A model folder as far as a training's output is looked at.
WRITES_A_MODEL = "mkdir {output}; cd {output}; touch config.json tokenizer_config.json a.safetensors"


@given(count=st.integers(1, 40), size=st.integers(1, 15), most=st.none() | st.integers(1, 5), skip=st.integers(0, 10))
def test_iterations_end_with_the_prompts_or_their_number(count, size, most, skip):
    prompts = pd.DataFrame({"prompt_id": [f"{i:02}" for i in range(count + skip)], "split": "train"})
    iterations = plan_iterations(prompts, ["train"], skip, size, most)
    assert [one["iteration"] for one in iterations] == list(range(1, len(iterations) + 1))
    assert all(one["prompts"] == size for one in iterations[:-1]) and 0 < iterations[-1]["prompts"] <= size
    total = sum(one["prompts"] for one in iterations)
    assert total == count if len(iterations) != most else total == min(count, most * size)


def test_without_a_prompt_there_is_no_iteration():
    prompts = pd.DataFrame({"prompt_id": ["a"], "split": ["train"]})
    with pytest.raises(UserError, match="no prompts are left"):
        plan_iterations(prompts, ["test"], 0, 5, 2)


def candidates(tokenizer: ChatTokenizer, heuristic_id: str) -> pd.DataFrame:
    texts = ["The river", "", "Nobody knew why the lantern burned", "?"]
    rows = [
        {
            "prompt_id": prompt_id,
            "heuristic_id": heuristic_id,
            "seed": seed,
            "prompt_token_ids": tokenizer.encode_chat([{"role": "user", "content": prompt_id * 3}]),
            "token_ids": tokenizer.encode(text),
            "text": text,
            "finish_reason": "error" if text == "?" else "stop",
            "sample_seed": seed,
            "engine": "none",
            "error": "lost" if text == "?" else None,
            "token_logprobs": None if text == "?" else [-1.0] * len(tokenizer.encode(text)),
            "end_logprobs": None,
        }
        for seed, text in enumerate(texts)
        for prompt_id in ("a", "b")
    ]
    return pd.DataFrame(rows)


def test_samples_of_a_prompt_meet_in_one_tournament(tiny_model_folder, tmp_path):
    heuristics = sampling_heuristics([{"top_p": 0.9}])
    table = candidates(ChatTokenizer(tiny_model_folder), heuristics["heuristic_id"][0])
    write_table("candidates", table, tmp_path / "candidates.parquet")
    as_contestants(tmp_path / "candidates.parquet", tmp_path / "contestants.parquet")
    found = read_table("candidates", tmp_path / "contestants.parquet")
    assert (found["seed"] == 0).all() and not found.duplicated(KEY).any()
    players = contestants(heuristics, 4)
    assert players["name"].tolist() == [f"top_p_0.9 sample {number}" for number in range(4)]
    numbers = dict(zip(players["heuristic_id"], range(4), strict=True))
    assert found["heuristic_id"].map(numbers).tolist() == table["seed"].tolist()
    assert found["token_logprobs"].isna().all() and found["end_logprobs"].isna().all()
    same = ["prompt_id", "text", "finish_reason", "error", "sample_seed"]
    pd.testing.assert_frame_equal(found[same], table[same], check_dtype=False)


def test_samples_are_scored_as_the_base_model_sees_them(tiny_model, tiny_model_folder, tmp_path):
    tokenizer = ChatTokenizer(tiny_model_folder)
    write_table("candidates", candidates(tokenizer, "h"), tmp_path / "candidates.parquet")
    rescore(tmp_path / "candidates.parquet", tiny_model, tokenizer, 3, tmp_path / "scored.parquet")
    for row in read_table("candidates", tmp_path / "scored.parquet").itertuples():
        if row.finish_reason == "error":
            assert row.token_logprobs is None and row.end_logprobs is None
            continue
        tokens = torch.tensor([[*row.prompt_token_ids, *row.token_ids]])
        with torch.no_grad():
            log_probs = torch.log_softmax(tiny_model.model(tokens).logits[0], -1)
        start = len(row.prompt_token_ids) - 1
        expected = [log_probs[start + place, token].item() for place, token in enumerate(row.token_ids)]
        np.testing.assert_allclose(row.token_logprobs, expected, atol=1e-4)
        ends = log_probs[start:, tokenizer.end_token_ids].logsumexp(-1)
        np.testing.assert_allclose(row.end_logprobs, ends, atol=1e-4)


def test_a_policy_with_other_tokens_cannot_be_scored(tiny_model, tiny_model_folder, tmp_path):
    other = ChatTokenizer(tiny_model_folder)
    other.tokenizer.add_tokens(["<|new|>"])
    with pytest.raises(UserError, match="the policy has other tokens than the base model"):
        rescore(tmp_path / "none.parquet", tiny_model, other, 3, tmp_path / "scored.parquet")


def test_words_of_a_command_are_filled_in_and_other_braces_stay():
    command = "train --data {data} --beta ${BETA:-0.1} {iteration}{unknown}"
    filled = filled_in(command, {"data": "my pairs; rm x.jsonl", "iteration": 3})
    assert filled == "train --data 'my pairs; rm x.jsonl' --beta ${BETA:-0.1} 3{unknown}"
    assert variable("data") == "ITERATION_DATA"


def test_seeds_of_iterations_differ_and_every_library_takes_them():
    seeds = [training_seed(20260101, number) for number in range(1, 200)]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**31 for seed in seeds)
    assert training_seed(1, 1) != training_seed(2, 1)


def trained(tmp_path: Path, command: str, **words) -> Path:
    train_policy(
        command, {"iteration": 1, **words}, tmp_path / "iteration=1" / "checkpoint", tmp_path / "training.log", 2
    )
    return tmp_path / "iteration=1" / "checkpoint"


def test_a_command_is_told_what_it_needs_in_words_and_variables(tmp_path, monkeypatch):
    # As jobs have it (rules/common.smk): the workflow's scripts are nothing that a command should find.
    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY / 'scripts'}{os.pathsep}of/the/user")
    told = "echo {iteration} $PYTHONPATH $ITERATION_ITERATION $OMP_NUM_THREADS {data}"
    told += "; echo $ITERATION_DATA > {scratch}/x; ls {scratch}"
    scratch = tmp_path / "scratch"
    output = trained(tmp_path, f"{told}; {WRITES_A_MODEL}", data="a 'b'", scratch=scratch)
    assert (tmp_path / "training.log").read_text() == "1 of/the/user 1 2 a 'b'\nx\n"
    assert sorted(path.name for path in output.iterdir()) == ["a.safetensors", "config.json", "tokenizer_config.json"]
    assert sorted(path.name for path in output.parent.iterdir()) == ["checkpoint"] and not scratch.exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("for i in $(seq 99); do echo line $i; done; exit 3", "status 3.*\n  line 70\n(.*\n)*  line 99$"),
        ("false | cat; touch {output}", "status 1"),
        ("echo $UNSET_VARIABLE", "status 1"),
        ("true", "wrote no folder {output}"),
        (f"{WRITES_A_MODEL}; rm config.json; mv a.safetensors a.bin", r"no config.json, no \*.safetensors .*a.bin"),
        ("mkdir {output}; echo > {output}/adapter_config.json", r"no \*.safetensors in"),
    ],
)
def test_a_training_without_a_model_fails_and_keeps_what_it_needs_to_go_on(tmp_path, command, message):
    with pytest.raises(UserError, match=message):
        trained(tmp_path, f"echo kept > {{scratch}}/state; {command}", scratch=tmp_path / "scratch")
    assert (tmp_path / "scratch" / "state").read_text() == "kept\n"
    assert list((tmp_path / "iteration=1").iterdir()) == []


def test_a_command_is_killed_with_its_job_and_leaves_nothing_for_the_next_one(tmp_path):
    mark = f"sleep 1234{os.getpid()}"
    code = (
        "import sys; from pathlib import Path; from adaptive_samplers.policies.update import train_policy; "
        f"train_policy('mkdir {{output}}; {mark}; true', {{}}, Path(sys.argv[1]), Path(sys.argv[2]), 1)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "scripts")}
    output = tmp_path / "iteration=1" / "checkpoint"
    job = subprocess.Popen([sys.executable, "-c", code, str(output), str(tmp_path / "log")], env=environment)
    wait_until(lambda: list(output.parent.glob(f".{output.name}.*")), 60, job)
    job.send_signal(signal.SIGKILL)
    job.wait()
    wait_until(lambda: not [number for number in processes_with(mark) if number != os.getpid()], 30)
    assert not output.exists() and list(output.parent.glob(f".{output.name}.*"))
    time.sleep(0.1)
    assert trained(tmp_path, WRITES_A_MODEL).is_dir()
    assert [path.name for path in output.parent.iterdir()] == ["checkpoint"]


def test_dpo_trains_an_adapter_that_becomes_a_policy(tiny_model_folder, tmp_path):
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Write {number}."}],
            "chosen": [{"role": "assistant", "content": "the sea, the wind"}],
            "rejected": [{"role": "assistant", "content": f"nobody {number}"}],
            "margin": 1.0,
        }
        for number in range(6)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = "--lora-rank 2 --seed {seed} --learning-rate 1e-2 --batch-size 3 --epochs 2"
    files = "--data {data} --model {model} --reference {reference} --output {output}"
    command = f"{sys.executable} {REPOSITORY}/scripts/train_dpo.py {files} {options}"
    words = {"data": tmp_path / "pairs.jsonl", "model": tiny_model_folder, "reference": tiny_model_folder, "seed": 5}
    checkpoint = trained(tmp_path, command, **words)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in checkpoint.iterdir()}
    assert not list(checkpoint.glob("*.bin"))
    adopt_policy(checkpoint, tiny_model_folder, "CC0-1.0", "iteration=1", tmp_path / "policy")
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_model_folder, tmp_path / "policy"))
    assert before.keys() == after.keys() and any(not torch.equal(before[name], after[name]) for name in before)
    assert read_json(tmp_path / "policy" / "provenance.json")["source"]["kind"] == "adapter"
    assert ChatTokenizer(tmp_path / "policy").end_token_ids == ChatTokenizer(tiny_model_folder).end_token_ids
