"""Draws that are recorded while answers are generated, against those of a replay of the same answers."""

import json

import pandas as pd
import pytest
import torch

from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.engines.base import Recording
from adaptive_samplers.engines.transformers_engine import TransformersEngine
from adaptive_samplers.generation import GenerationSettings, generate
from adaptive_samplers.heuristics import expand_heuristics
from adaptive_samplers.off_policy import recorder as recorder_module
from adaptive_samplers.off_policy.reading import RECORDED_SPLITS, answers_to_record, without_ends_by_strings
from adaptive_samplers.off_policy.recorder import DrawRecorder
from adaptive_samplers.off_policy.shards import SketchShard, shard_fingerprint
from adaptive_samplers.tables import read_table
from adaptive_samplers.training.replay import replay

RECORDING = Recording(top=24, tail=16, steps=None)
HEURISTICS = pd.DataFrame(
    expand_heuristics(
        Heuristics(
            grid=[
                {"family": "temperature", "temperatures": [0.5, 1.5]},
                {"family": "min_p", "values": [0.1], "temperatures": [1.0]},
                {"family": "mirostat", "values": [{"tau": 3.0, "eta": 0.1}], "temperatures": [1.0]},
            ],
            pipelines=[[{"top_k": 1}]],
            verbalized=[{"answers": 2}],
        )
    )
)
PROMPTS = pd.DataFrame(
    [
        {
            "prompt_id": f"{i:016x}",
            "dataset": "test",
            "kind": "chat",
            "messages": json.dumps([{"role": "user", "content": "The sea " * (i + 1)}]),
            "verifier": None,
            "ground_truth": None,
            "split": ["train", "validation", "test"][i % 3],
        }
        for i in range(6)
    ]
)
# Some answers end by themselves, some by the string and some by the limit.
SETTINGS = GenerationSettings(run_seed=5, max_new_tokens=12, stop=("e",), dtype="float32")


class EndsEasily:
    """A language model whose answers often end by themselves."""

    def __init__(self, model, dies_after=None):
        self.inner = model
        self.steps_left = dies_after
        self.read = 0

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def next_logits(self, *arguments):
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                raise ConnectionError("the job was killed")
        return self._ending(self.inner.next_logits(*arguments))

    def answer_logits(self, *arguments):
        for position, logits in self.inner.answer_logits(*arguments):
            self.read += 1
            yield position, self._ending(logits)

    def _ending(self, logits):
        ends = torch.zeros_like(logits)
        ends[..., self.inner.end_token_ids] = 6.0
        return logits + ends


def recorded(model, folder, recording=RECORDING, model_hash="hash", heuristics=HEURISTICS):
    engine = TransformersEngine(model, batch_size=16)
    recorder = DrawRecorder.of(folder / "draws.safetensors", engine, model_hash, recording)
    generate(PROMPTS, heuristics, [0, 1], engine, model_hash, SETTINGS, folder / "c.parquet", recorder=recorder)
    return SketchShard.load(folder / "draws.safetensors")


def read_again(model, folder, recording=RECORDING, others=(), name="replayed"):
    answers = answers_to_record(folder / "c.parquet", PROMPTS, HEURISTICS, RECORDED_SPLITS, recording.steps, 0, 1)
    answers = without_ends_by_strings(answers, model.decode, SETTINGS.stop)
    path = folder / name
    replay(answers, model, "hash", recording.top, recording.tail, path, others)
    return SketchShard.load(path)


@pytest.mark.parametrize("steps", [None, 3])
def test_what_is_recorded_is_what_a_replay_finds(tiny_model, tmp_path, steps):
    model, recording = EndsEasily(tiny_model), Recording(24, 16, steps)
    ours, theirs = recorded(model, tmp_path, recording), read_again(model, tmp_path, recording)
    assert ours.answer_ids == theirs.answer_ids and len(ours.answer_ids) > 20
    assert torch.equal(ours.token_ids, theirs.token_ids) and torch.equal(ours.draws.starts, theirs.draws.starts)
    # The same up to the rounding of a language model in batches of another size, and to ranks that it swaps.
    torch.testing.assert_close(ours.draws.sketch.n, theirs.draws.sketch.n, rtol=0, atol=2)
    torch.testing.assert_close(ours.draws.sketch.t, theirs.draws.sketch.t, rtol=0, atol=0.05)
    torch.testing.assert_close(ours.draws.log_probs, theirs.draws.log_probs, rtol=0, atol=1e-4)
    assert (ours.draws.ranks != theirs.draws.ranks).float().mean() < 0.01
    reasons = read_table("candidates", tmp_path / "c.parquet")["finish_reason"].value_counts()
    assert (ours.token_ids == -1).any() and {"stop", "length"} <= set(reasons.index)
    # What was recorded is not read again, and answers of the test split are not recorded.
    model.read = 0
    read_again(model, tmp_path, recording, [tmp_path / "draws.safetensors"], "taken over")
    assert model.read == 0


def test_recording_changes_no_answer(tiny_model, tmp_path):
    model = EndsEasily(tiny_model)
    recorded(model, tmp_path)
    generate(PROMPTS, HEURISTICS, [0, 1], TransformersEngine(model, 16), "hash", SETTINGS, tmp_path / "without.parquet")
    pd.testing.assert_frame_equal(
        *(read_table("candidates", tmp_path / name) for name in ("c.parquet", "without.parquet"))
    )


@pytest.mark.parametrize("part_bytes", [1, 2**24])
def test_a_killed_job_keeps_what_it_saved_and_a_replay_reads_the_rest(tiny_model, tmp_path, monkeypatch, part_bytes):
    monkeypatch.setattr(recorder_module, "PART_BYTES", part_bytes)
    with pytest.raises(ConnectionError):
        recorded(EndsEasily(tiny_model, dies_after=15), tmp_path)
    parts = len(list(tmp_path.glob("draws.safetensors.part.*")))
    assert (parts > 3) == (part_bytes == 1)
    model = EndsEasily(tiny_model)
    ours = recorded(model, tmp_path)
    assert not list(tmp_path.glob("*.part*"))
    whole = read_again(model, tmp_path)
    assert (ours.answer_ids == whole.answer_ids) == (part_bytes == 1)
    model.read = 0
    filled = read_again(model, tmp_path, others=[tmp_path / "draws.safetensors"], name="filled")
    assert filled.answer_ids == whole.answer_ids
    assert model.read == len(whole.answer_ids) - len(ours.answer_ids)


def test_draws_of_answers_that_are_reused_are_kept_and_others_forgotten(tiny_model, tmp_path):
    model, path = EndsEasily(tiny_model), tmp_path / "draws.safetensors"
    before = recorded(model, tmp_path)
    fewer = recorded(model, tmp_path, heuristics=HEURISTICS[:2])
    assert set(fewer.answer_ids) < set(before.answer_ids)
    whole = read_again(model, tmp_path)
    assert fewer.answer_ids == whole.answer_ids and torch.equal(fewer.token_ids, whole.token_ids)
    # In another size nothing is known of answers that are there already.
    fingerprint = shard_fingerprint(path)
    assert not recorded(model, tmp_path, Recording(20, 10, None), heuristics=HEURISTICS[:2]).answer_ids
    assert shard_fingerprint(path) != fingerprint
    # Another model answers anew.
    assert recorded(model, tmp_path, model_hash="other").answer_ids


def test_draws_are_taken_over_from_where_the_answers_are(tiny_model, tmp_path):
    """As in a later generation of samplers: answers, and what they drew, are in files of the one before."""
    model = EndsEasily(tiny_model)
    before = recorded(model, tmp_path)
    engine, later = TransformersEngine(model, batch_size=16), tmp_path / "later.safetensors"
    recorder = DrawRecorder.of(later, engine, "hash", RECORDING, [tmp_path / "draws.safetensors"])
    arguments = (PROMPTS, HEURISTICS, [0, 1], engine, "hash", SETTINGS, tmp_path / "later.parquet")
    generate(*arguments, others=[tmp_path / "c.parquet"], recorder=recorder)
    assert SketchShard.load(later).answer_ids == before.answer_ids


def test_nothing_is_lost_if_draws_cannot_be_written_and_damage_is_passed_over(
    tiny_model, tmp_path, monkeypatch, capsys
):
    model, path = EndsEasily(tiny_model), tmp_path / "draws.safetensors"
    with monkeypatch.context() as patched:
        patched.setattr(SketchShard, "save", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space"):
            recorded(model, tmp_path)
    assert (tmp_path / "c.parquet.part").exists()
    model.next_logits = None  # nothing is asked again
    path.write_bytes(b"not a shard")
    assert not recorded(model, tmp_path).answer_ids
    assert f"{path} is damaged" in capsys.readouterr().err
