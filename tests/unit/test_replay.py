"""Replay, one training run and probes, on a tiny random language model."""

import itertools
import json
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from adaptive_samplers import AdaptiveSampler
from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.config.model.training import Training
from adaptive_samplers.errors import UserError
from adaptive_samplers.files import read_json
from adaptive_samplers.heuristics import (
    apply,
    apply_on_support,
    apply_to_logits,
    expand_heuristics,
    initial_state,
    next_states,
    parse_processors,
    sort_logits,
)
from adaptive_samplers.off_policy.shards import SketchShard, shard_fingerprint
from adaptive_samplers.probes import TOKENS_SHOWN, probe_distributions
from adaptive_samplers.samplers import ARCHITECTURES, build_sampler
from adaptive_samplers.selection import answer_id
from adaptive_samplers.sketch import DistributionSketch
from adaptive_samplers.tables import SCHEMAS, read_table, write_table
from adaptive_samplers.training import TrainingSettings, trainer
from adaptive_samplers.training import replay as replay_module
from adaptive_samplers.training.learnability import learn_heuristic
from adaptive_samplers.training.replay import answers_of_shard, replay, token_steps
from adaptive_samplers.training.train_sampler import train_on_training_set

TOP, TAIL = 24, 16
HEURISTICS = pd.DataFrame(
    expand_heuristics(
        Heuristics(grid=[{"family": "min_p", "values": [0.1], "temperatures": [0.7, 1.0]}], pipelines=[[{"top_k": 5}]])
    )
)
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def training_set(tiny_model, tmp_path_factory) -> pd.DataFrame:
    """Twelve rows, as Parquet gives them; the answers of ranks 1 and 2 of a prompt are the same for p2."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(6):
        prompt = tiny_model.encode_chat([{"role": "user", "content": "The sea " * (number + 1)}])
        for rank in (1, 2):
            if not (number == 2 and rank == 2):
                tokens = generator.integers(3, len(tiny_model.tokenizer), int(generator.integers(1, 8))).tolist()
                finish_reason = ["stop", "length"][(number + rank) % 2]
                if number == 5 and rank == 2:
                    tokens, finish_reason = [], "stop"  # an empty answer has one step: to end
            rows.append(
                {
                    "prompt_id": f"p{number}",
                    "heuristic_id": HEURISTICS["heuristic_id"][rank],
                    "seed": 0,
                    "weights": "a0_b1_c0",
                    "top_k": 2,
                    "rank": rank,
                    "score": 1.0,
                    "split": SPLITS[number % 3],
                    "processors": HEURISTICS["processors"][rank],
                    "answer_id": answer_id(prompt, tokens, finish_reason),
                    "prompt_token_ids": prompt,
                    "token_ids": tokens,
                    "finish_reason": finish_reason,
                }
            )
    path = tmp_path_factory.mktemp("sets") / "set.parquet"
    write_table("training_sets", rows, path)
    return read_table("training_sets", path)


class Counting:
    """A language model that counts the answers it reads."""

    def __init__(self, model):
        self.inner, self.read = model, 0

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def answer_logits(self, pairs, batch_size, done):
        self.read += len(pairs) - len(done)
        return self.inner.answer_logits(pairs, batch_size, done)


def replayed(training_set, model, folder, shards=1, top=TOP, tail=TAIL, model_hash="hash"):
    paths = [folder / f"shard={shard}.safetensors" for shard in range(shards)]
    for shard, path in enumerate(paths):
        replay(answers_of_shard([training_set], shard, shards), model, model_hash, top, tail, path)
    return paths


@torch.inference_mode()
def logits_one_by_one(model, prompt, answer, steps):
    """The reference: without batches or padding, one forward of each prefix."""
    tokens = [*prompt, *answer]
    prefixes = [tokens[: len(prompt) + step] for step in range(steps)]
    return torch.stack([model.model(torch.tensor([prefix])).logits[0, -1].float() for prefix in prefixes])


def test_every_token_step_is_sketched(tiny_model, training_set, tmp_path):
    (path,) = replayed(training_set, tiny_model, tmp_path)
    shard = SketchShard.load(path)
    rows = training_set.drop_duplicates("answer_id").set_index("answer_id")
    assert shard.answer_ids == sorted(rows.index) and len(rows) == 11
    assert shard.draws.sketch.t.shape == (int(shard.draws.starts[-1]), TOP + TAIL)
    for name, (start, end) in zip(shard.answer_ids, pairwise(shard.draws.starts.tolist()), strict=True):
        row = rows.loc[name]
        ended = row["finish_reason"] == "stop"
        assert shard.token_ids[start:end].tolist() == [*row["token_ids"].tolist(), *([-1] if ended else [])]
        logits = logits_one_by_one(tiny_model, row["prompt_token_ids"], row["token_ids"], end - start)
        expected = DistributionSketch.from_logits(logits, TOP, TAIL)
        torch.testing.assert_close(shard.draws.sketch.t[start:end], expected.t, rtol=0, atol=2e-4)
        torch.testing.assert_close(shard.draws.sketch.n[start:end], expected.n, rtol=0, atol=2e-3)
        end_token = max(tiny_model.end_token_ids, key=logits[-1].tolist().__getitem__)
        tokens = torch.tensor([*row["token_ids"], *([end_token] if ended else [])], dtype=torch.long)
        chosen = logits.log_softmax(-1).gather(1, tokens[:, None]).squeeze(1)
        torch.testing.assert_close(shard.draws.log_probs[start:end], chosen, rtol=0, atol=2e-4)
        # Between tokens that differ in the last digits only, which comes first depends on the batch.
        drawn, ranks = logits.gather(1, tokens[:, None]), shard.draws.ranks[start:end]
        assert ((logits > drawn + 2e-4).sum(-1) <= ranks).all() and (ranks <= (logits > drawn - 2e-4).sum(-1)).all()


def test_a_killed_replay_goes_on_where_it_was(tiny_model, training_set, tmp_path, monkeypatch):
    monkeypatch.setattr(replay_module, "BATCH_SIZE", 4)  # the kills are within batches
    (whole,) = replayed(training_set, tiny_model, tmp_path / "whole")

    class Dying(Counting):
        def answer_logits(self, *arguments):
            yield from itertools.islice(super().answer_logits(*arguments), self.answers)
            raise KeyboardInterrupt

    for answers in (6, 2):
        dying = Dying(tiny_model)
        dying.answers = answers
        with pytest.raises(KeyboardInterrupt):
            replayed(training_set, dying, tmp_path)
        assert not (tmp_path / "shard=0.safetensors").exists()
    kept = [SketchShard.load(file).answer_ids for file in tmp_path.glob("shard=0.safetensors.part.*")]
    assert sorted(map(len, kept)) == [1, 1, 2, 2, 2] and len(set(itertools.chain(*kept))) == 8
    resumed = Counting(tiny_model)
    (path,) = replayed(training_set, resumed, tmp_path)
    assert resumed.read == 3
    assert [file.name for file in tmp_path.glob("shard*")] == [path.name]
    assert path.read_bytes() == whole.read_bytes()


def test_token_steps_that_do_not_fit_in_memory_are_mapped(tiny_model, training_set, tmp_path, monkeypatch):
    shards = replayed(training_set, tiny_model, tmp_path, 3)
    expected = token_steps(training_set, shards)
    monkeypatch.setattr(replay_module, "IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    mapped = token_steps(training_set, shards)
    assert mapped.fingerprint() == expected.fingerprint()
    assert not list((tmp_path / "scratch").iterdir())  # nothing to be left behind by a kill
    maps = Path("/proc/self/maps").read_text()
    assert f"{tmp_path}/scratch/token_steps." in maps


@pytest.mark.parametrize("shards", [2, 40])
def test_shards_divide_the_answers(tiny_model, training_set, tmp_path, shards):
    """Of forty shards most are empty."""
    whole = replayed(training_set, tiny_model, tmp_path / "whole")
    parts = replayed(training_set, tiny_model, tmp_path / "parts", shards)
    loaded = [SketchShard.load(path) for path in parts]
    assert sorted(i for shard in loaded for i in shard.answer_ids) == SketchShard.load(whole[0]).answer_ids
    one, many = token_steps(training_set, whole), token_steps(training_set, parts)
    assert len(one) == len(many)
    for a, b in ((one.t, many.t), (one.n, many.n)):
        torch.testing.assert_close(a.sum(0), b.sum(0), rtol=1e-4, atol=2e-2)


def test_what_was_replayed_before_is_taken_over(tiny_model, training_set, tmp_path):
    model = Counting(tiny_model)
    replayed(training_set[:8], model, tmp_path)
    first, before = model.read, SketchShard.load(tmp_path / "shard=0.safetensors")
    assert first == training_set[:8]["answer_id"].nunique()
    (path,) = replayed(training_set, model, tmp_path)
    assert model.read == 11
    after = SketchShard.load(path)
    for place, name in enumerate(before.answer_ids):
        now = after.answer_ids.index(name)
        old, new = (s.draws.steps(s.draws.span(i)) for s, i in ((before, place), (after, now)))
        assert all(torch.equal(first, second) for first, second in zip(old, new, strict=True))
    replayed(training_set[2:4], model, tmp_path)  # fewer: nothing is read, and the others are dropped
    assert model.read == 11 and len(SketchShard.load(path).answer_ids) == 2


def test_beginnings_of_answers_are_taken_over_and_longer_ones_read(tiny_model, training_set, tmp_path):
    """As when `off_policy.steps` changes, and from the file of an earlier generation."""
    model, whole = Counting(tiny_model), answers_of_shard([training_set], 0, 1)
    short = whole.assign(token_ids=[tokens[:2] for tokens in whole["token_ids"]], finish_reason="length")
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    replay(whole, model, "hash", TOP, TAIL, first)
    read = model.read
    replay(short, model, "hash", TOP, TAIL, second, [first])
    assert model.read == read
    longer, shorter = SketchShard.load(first), SketchShard.load(second)
    assert shorter.draws.starts.diff().max() == 2
    for row in range(len(whole)):
        begin, span = longer.draws.span(row).start, shorter.draws.span(row)
        same = longer.draws.steps(slice(begin, begin + span.stop - span.start)), shorter.draws.steps(span)
        assert all(torch.equal(one, other) for one, other in zip(*same, strict=True))
    replay(whole, model, "hash", TOP, TAIL, second)
    lacked = longer.draws.starts.diff() > shorter.draws.starts.diff()
    assert model.read == read + int(lacked.sum()) and len(SketchShard.load(second).token_ids) == len(longer.token_ids)


@pytest.mark.parametrize("change", [{"model_hash": "other"}, {"top": 25, "tail": 15}])
def test_sketches_of_another_model_or_size_are_not_taken_over(tiny_model, training_set, tmp_path, change):
    model = Counting(tiny_model)
    (path,) = replayed(training_set, model, tmp_path)
    fingerprint = shard_fingerprint(path)
    replayed(training_set, model, tmp_path, **change)
    assert model.read == 22 and shard_fingerprint(path) != fingerprint


def test_an_answer_beyond_the_context_is_refused(tiny_model, training_set, tmp_path):
    long = training_set[:1].copy()
    long["token_ids"] = [np.full(200, 5)]
    with pytest.raises(UserError, match=r"replay: a prompt of \d+ tokens and an answer of up to 200 exceed"):
        replayed(long, tiny_model, tmp_path)


def test_targets_are_what_the_heuristic_makes_of_the_logits(tiny_model, training_set, tmp_path, monkeypatch):
    monkeypatch.setattr(apply, "ROWS_AT_ONCE", 7)  # many blocks, and steps of an answer in two of them
    vocabulary = len(tiny_model.tokenizer)
    paths = replayed(training_set, tiny_model, tmp_path, top=vocabulary, tail=2)  # every token has its own point
    steps = token_steps(training_set, paths)
    expected = []
    for name in SketchShard.load(paths[0]).answer_ids:
        for row in training_set[training_set["answer_id"] == name].itertuples():
            count = len(row.token_ids) + (row.finish_reason == "stop")
            logits = logits_one_by_one(tiny_model, row.prompt_token_ids, row.token_ids, count)
            target = apply_to_logits(logits, [parse_processors(row.processors)] * count)
            expected.append(target.softmax(-1).sort(dim=-1, descending=True).values)
    got = steps.target[:, :vocabulary].softmax(-1)
    torch.testing.assert_close(got, torch.cat(expected), rtol=1e-3, atol=2e-5)
    assert len(steps) == sum(map(len, expected)) > steps.select(slice(0, 3)).t.shape[0]


STATEFUL = json.dumps(
    [{"name": "temperature", "params": {"temperature": 1.5}}, {"name": "mirostat", "params": {"tau": 2.0, "eta": 0.5}}]
)


def one_step_at_a_time(logits, tokens, pipeline):
    """What a stateful pipeline makes of the logits `[L, V]`, given the tokens that were chosen: `[L, V]`."""
    state, made = initial_state(pipeline), []
    for position, row in enumerate(logits):
        t, order = sort_logits(row[None].log_softmax(-1))
        support = apply_on_support(t, None, [pipeline], [state])
        made.append(torch.empty_like(t).scatter_(-1, order, support.t)[0])
        if position < len(tokens):
            left = torch.where(support.n > 0, t, torch.inf)
            chosen = row.log_softmax(-1)[tokens[position]]
            place = (left - chosen).abs().argmin(-1, keepdim=True)  # a random token may have been cut
            (state,) = next_states([pipeline], [state], support.log_probs.gather(1, place)[0])
    return torch.stack(made)


def test_targets_of_stateful_heuristics_follow_the_answer(tiny_model, training_set, tmp_path):
    """Among answers of heuristics without state, whose targets are as if alone."""
    vocabulary = len(tiny_model.tokenizer)
    paths = replayed(training_set, tiny_model, tmp_path, top=vocabulary, tail=2)
    mixed = training_set.copy()
    mixed.loc[mixed.index % 2 == 0, "processors"] = STATEFUL
    steps, plain = token_steps(mixed, paths), token_steps(training_set, paths)
    position, followed = 0, 0
    for name in SketchShard.load(paths[0]).answer_ids:
        for row in mixed[mixed["answer_id"] == name].itertuples():
            count = len(row.token_ids) + (row.finish_reason == "stop")
            span = slice(position, position + count)
            position += count
            if row.processors != STATEFUL:
                assert torch.equal(steps.target[span], plain.target[span])
                continue
            logits = logits_one_by_one(tiny_model, row.prompt_token_ids, row.token_ids, count)
            expected = one_step_at_a_time(logits, row.token_ids, parse_processors(STATEFUL))
            got = steps.target[span, :vocabulary].softmax(-1)
            expected = expected.softmax(-1).sort(dim=-1, descending=True).values
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=2e-5)
            followed += count
    assert position == len(steps) and followed > 10


def test_cuts_inside_a_group_are_in_the_targets(tiny_model, training_set, tmp_path):
    paths = replayed(training_set, tiny_model, tmp_path)
    top_k = json.dumps([{"name": "top_k", "params": {"k": 100}}])
    steps = token_steps(training_set.assign(processors=top_k), paths)
    assert (steps.kept.sum(-1) == 100).all() and ((steps.kept > 0) & (steps.kept < steps.n)).any()
    assert torch.equal(steps.kept > 0, steps.target.isfinite())


def test_an_answer_that_was_not_replayed_is_a_clear_error(tiny_model, training_set, tmp_path):
    paths = replayed(training_set[:4], tiny_model, tmp_path)
    with pytest.raises(UserError, match=r"answers of the training set are in no sketch shard.*delete"):
        token_steps(training_set, paths)
    assert len(token_steps(training_set[:0], paths)) == 0


TRAINING = Training(
    sketch={"top": TOP, "tail": TAIL},
    learning_rate=0.01,
    weight_decay=0.0,
    batch_size=8,
    steps=40,
    warmup_steps=4,
    evaluate_every=10,
    patience=None,
)
OPTIONS = ARCHITECTURES["LocalProbabilityTransform"].options(hidden_dims=12)
LOCAL = ("LocalProbabilityTransform", OPTIONS)


def test_a_training_run(tiny_model, training_set, tmp_path):
    paths = replayed(training_set, tiny_model, tmp_path)
    output = tmp_path / "samplers" / LOCAL[0] / "a0_b1_c0_top2"
    train_on_training_set(training_set, paths, *LOCAL, TRAINING.objectives[0], TRAINING, 3, output)

    names = {path.name for path in output.iterdir()}
    assert {"config.json", "model.safetensors", "metrics.json", "curves.csv", "tensorboard", "provenance.json"} <= names
    assert sorted(path.name for path in output.parent.iterdir()) == [output.name, f"{output.name}.checkpoint"]
    sampler = AdaptiveSampler.from_pretrained(output)
    assert sampler.config["architecture"] == LOCAL[0]

    metrics = read_json(output / "metrics.json")
    test_steps = token_steps(training_set[training_set["split"] == "test"], paths)
    assert metrics["token_steps"] == len(test_steps) and metrics["split"] == "test"
    assert {"kl", "truncated_mass", "loss", "identity_kl", "identity_truncated_mass", "identity_loss"} <= set(metrics)
    curves = pd.read_csv(output / "curves.csv")
    assert set(curves["split"]) == {"train", "validation"} and curves["step"].max() == 40
    validation = curves[curves["split"] == "validation"].set_index("step")["loss"]
    assert metrics["best_step"] == validation.idxmin() and validation.min() < validation[0]
    made = read_json(output / "provenance.json")
    assert made["answers"] == sorted(set(training_set["answer_id"]))
    assert made["settings"] == {
        "architecture": LOCAL[0],
        "sampler": {"hidden_dims": 12},
        "training": TRAINING.model_dump(),
        "seed": 3,
    }

    again = tmp_path / "again"
    train_on_training_set(training_set, paths, *LOCAL, TRAINING.objectives[0], TRAINING, 3, again)
    assert (again / "model.safetensors").read_bytes() == (output / "model.safetensors").read_bytes()


def test_learning_a_single_heuristic(tiny_model, training_set, tmp_path):
    paths = replayed(training_set, tiny_model, tmp_path)
    pipeline = parse_processors([{"name": "temperature", "params": {"temperature": 0.5}}])
    settings = TrainingSettings.from_config(TRAINING, 3)
    row = learn_heuristic(training_set, paths, pipeline, *LOCAL, settings, tmp_path / "checkpoint")
    assert (row["architecture"], row["heuristic"], row["kept_overlap"]) == (LOCAL[0], "temperature_0.5", None)
    # Answers of the test split, each once, whatever heuristics they are listed with.
    test_answers = training_set[training_set["split"] == "test"].drop_duplicates("answer_id")
    assert row["token_steps"] == len(token_steps(test_answers, paths))
    assert 0 < row["kl"] < row["identity_kl"] / 2
    assert learn_heuristic(training_set, paths, pipeline, *LOCAL, settings, tmp_path / "checkpoint") == row
    with pytest.raises(UserError, match="no answer to a prompt of the test split"):
        rest = training_set[training_set["split"] != "test"]
        learn_heuristic(rest, paths, pipeline, *LOCAL, settings, tmp_path / "other")


def test_a_run_that_was_finished_ends_at_once_unless_training_changed(tiny_model, training_set, tmp_path, monkeypatch):
    paths, output = replayed(training_set, tiny_model, tmp_path), tmp_path / "out"
    steps = []
    step = trainer.training_step
    monkeypatch.setattr(trainer, "training_step", lambda *arguments: steps.append(1) or step(*arguments))

    def train_again(**changes):
        steps.clear()
        train_on_training_set(
            training_set, paths, *LOCAL, TRAINING.objectives[0], TRAINING.model_copy(update=changes), 3, output
        )
        return len(steps), (output / "model.safetensors").read_bytes()

    first = train_again()
    assert first[0] == 40 and train_again() == (0, first[1])
    assert train_again(replay_shards=2) == (0, first[1])
    assert train_again(learning_rate=0.02)[0] == 40
    assert train_again() == first
    monkeypatch.setitem(trainer.STAGE_VERSIONS, "train_sampler", 10**6)
    assert train_again() == first


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_without_answers_is_told_before_training(tiny_model, training_set, tmp_path, split):
    paths = replayed(training_set, tiny_model, tmp_path)
    rest = training_set[training_set["split"] != split]
    with pytest.raises(UserError, match=f"no answer to a prompt of the {split} split.*scoring"):
        train_on_training_set(rest, paths, *LOCAL, TRAINING.objectives[0], TRAINING, 3, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.checkpoint").exists()


@pytest.fixture
def prompts(training_set):
    ids = sorted(set(training_set["prompt_id"]))
    messages = [json.dumps([{"role": "user", "content": f"Question {i}"}]) for i in ids]
    return pd.DataFrame({"prompt_id": ids, "messages": messages})


@pytest.fixture
def samplers(tmp_path):
    folder = tmp_path / LOCAL[0] / "a0_b1_c0_top2"
    build_sampler(LOCAL[0], OPTIONS.model_dump(), seed=1).save_pretrained(folder)
    return {LOCAL[0]: folder}


def test_probes(tiny_model, training_set, prompts, samplers):
    probes = probe_distributions(training_set, prompts, tiny_model, samplers, count=4)
    assert len(json.loads(json.dumps(probes))) == 4
    entropies = [probe["entropy"] for probe in probes]
    assert entropies == sorted(entropies) and entropies[0] < entropies[-1]
    sampler = AdaptiveSampler.from_pretrained(samplers[LOCAL[0]])
    rows = training_set[(training_set["split"] == "test")]
    for probe in probes:
        # The step is found again by what it shows.
        steps = [
            (row, position)
            for row in rows.itertuples()
            for position in range(len(row.token_ids))
            if tiny_model.decode(row.token_ids[:position])[-60:] == probe["context"]
            and tiny_model.decode(row.token_ids[position : position + 1]) == probe["chosen_token"]
        ]
        row, position = steps[0]
        logits = logits_one_by_one(tiny_model, row.prompt_token_ids, row.token_ids, position + 1)[-1:]
        raw = logits.double().softmax(-1)[0]
        shown = raw.topk(TOKENS_SHOWN).indices
        np.testing.assert_allclose(probe["raw"], raw[shown], rtol=1e-3)
        assert probe["entropy"] == pytest.approx(float(-torch.xlogy(raw, raw).sum()), rel=1e-3)
        assert probe["tokens"] == [tiny_model.tokenizer.decode([int(token)]) for token in shown]
        assert probe["question"] in {"Question p2", "Question p5"}
        names = set(HEURISTICS["name"])
        assert probe["heuristic"] in names
        np.testing.assert_allclose(
            probe["learned"][LOCAL[0]], sampler.logits(logits).double().softmax(-1)[0][shown].detach(), rtol=1e-3
        )
        for name in ("raw", "target", LOCAL[0]):
            values = probe[name] if name in probe else probe["learned"][name]
            assert sum(values) + probe["tail_mass"][name] == pytest.approx(1)
        assert probe["tail_mass"]["target"] <= probe["tail_mass"]["raw"] + 1e-9


def test_probes_of_answers_by_a_learned_sampler(tiny_model, training_set, prompts, samplers):
    learned = json.dumps([{"name": "learned", "params": {"path": str(samplers[LOCAL[0]])}}])
    probes = probe_distributions(training_set.assign(processors=learned), prompts, tiny_model, samplers, count=2)
    for probe in probes:
        assert probe["heuristic"] == "learned_LocalProbabilityTransform/a0_b1_c0_top2"
        np.testing.assert_allclose(probe["target"], probe["learned"][LOCAL[0]], rtol=1e-4)


def test_probes_of_stateful_heuristics_follow_the_answer(tiny_model, training_set, prompts):
    probes = probe_distributions(training_set.assign(processors=STATEFUL), prompts, tiny_model, {}, count=4)
    expected = {}
    answered = training_set[(training_set["split"] == "test") & (training_set["token_ids"].map(len) > 0)]
    for row in answered.itertuples():
        logits = logits_one_by_one(tiny_model, row.prompt_token_ids, row.token_ids, len(row.token_ids))
        targets = one_step_at_a_time(logits, row.token_ids, parse_processors(STATEFUL))
        for position, target in enumerate(targets):
            shown = logits[position].topk(TOKENS_SHOWN).indices
            context = tiny_model.decode(row.token_ids[:position])[-60:]
            expected[context, tiny_model.decode([row.token_ids[position]])] = target.softmax(-1)[shown]
    for probe in probes:
        got = probe["target"]
        np.testing.assert_allclose(got, expected[probe["context"], probe["chosen_token"]], rtol=2e-3, atol=1e-6)


def test_probes_need_a_test_answer_with_tokens(tiny_model, training_set, prompts, samplers):
    for rows in (
        training_set[training_set["split"] != "test"],
        training_set[training_set["token_ids"].map(len) == 0],
    ):
        with pytest.raises(UserError, match="no answer to a test prompt was selected"):
            probe_distributions(rows, prompts, tiny_model, samplers, 2)
    assert set(training_set.columns) == set(SCHEMAS["training_sets"].names)
