"""The processor for vLLM, without vLLM: rows and slots at play, failures, and what requests may ask."""

import json
import logging
import random
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_samplers.engines.drawing import Draws, draw_tokens
from adaptive_samplers.hashing import file_sha256
from adaptive_samplers.heuristics import HEURISTICS, configured_pipeline
from adaptive_samplers.randomness import uniforms
from adaptive_samplers.samplers import build_sampler
from adaptive_samplers.serving import request, vllm_processor
from adaptive_samplers.serving.processor import request_parameters
from adaptive_samplers.serving.request import FIELD, FOLDERS_VARIABLE, Refused
from adaptive_samplers.serving.vllm_processor import Answers, NewRunner, OldRunner, validate
from adaptive_samplers.serving.vllm_request import read_request
from vllm_rows import (
    ENDS,
    LONGEST,
    VOCABULARY,
    Asked,
    Batch,
    BatchUpdate,
    SlotsOfRequests,
    decode,
    logits_after,
    play_new_runner,
    play_old_runner,
    sampling_params,
)


class Processor:
    """The processor under the names that vLLM calls."""

    def __init__(self, *states):
        runner = NewRunner(Answers(decode), *states) if states else OldRunner(Answers(decode))
        self.apply = runner.apply
        if states:
            self.add_request, self.apply_staged_writes = runner.add, runner.settle
        else:
            self.update_state = runner.update


SMALL = {"d_model": 8, "d_ff": 12, "n_blocks": 1}


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    """A small saved sampler in a folder that requests may name."""
    folder = tmp_path_factory.mktemp("samplers") / "small"
    build_sampler("SamplingNetwork", {**SMALL, "n_heads": 2}, seed=3).save_pretrained(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDERS_VARIABLE, str(folder.parent))
        yield str(folder)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_rows_of_the_first_runner(sampler, seed):
    processor = Processor()
    play_old_runner(random.Random(seed), 25, sampler, processor, Batch(processor))


@pytest.mark.parametrize("drafts", [0, 4])
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_slots_of_the_second_runner(sampler, drafts, seed):
    play_new_runner(random.Random(seed), 25, sampler, SlotsOfRequests(Processor), drafts)


def asking(own, **changes):
    """The parameters of a request that asks this of us."""
    return sampling_params(extra_args={FIELD: json.dumps(own)}, **changes)


def one_row(own, token_ids=(), answers=None, **changes):
    """The first runner with one row."""
    runner = OldRunner(answers or Answers(decode))
    runner.update(BatchUpdate(1, [], [(0, asking(own, **changes), [1], list(token_ids))], []))
    return runner


def drawn(logits):
    """The only tokens with finite logits."""
    found = logits.isfinite()
    assert (found.sum(-1) == 1).all()
    return found.int().argmax(-1).tolist()


HOT = [{"temperature": 1.5}]
MIROSTAT = [{"mirostat": {"tau": 3.0, "eta": 0.9}}]


def test_the_form_of_our_pipeline_and_the_short_one_are_the_same():
    long = request_parameters(configured_pipeline(HOT), 5, LONGEST, (), ENDS, {})
    short = {"processors": HOT, "sample_seed": 5}
    assert read_request(asking(long)) == read_request(asking(short))
    assert read_request(sampling_params(extra_args={FIELD: short})) == read_request(asking(short))
    assert read_request(sampling_params()) is None and read_request(sampling_params(extra_args={"other": 1})) is None
    for name, heuristic in HEURISTICS.items():
        middle = {
            key: numbers.typed(
                next(value for value in (0.5, 1, 2) if value in numbers and not (numbers.whole and value == 0.5))
            )
            for key, numbers in heuristic.parameters.items()
        }
        setting = next(iter(middle.values())) if len(middle) == 1 else middle or None
        step = configured_pipeline([{name: setting}])
        assert json.loads(read_request(asking({"processors": [{name: setting}]}))["processors"]) == [step[0].describe()]


def test_what_is_left_out_follows_from_the_request():
    read = read_request(asking({"processors": []}, seed=-3, max_tokens=17))
    assert read == {
        "processors": "[]",
        "sample_seed": 2**64 - 3,
        "max_new_tokens": 17,
        "stop": [],
        "end_token_ids": ENDS,
        "sampler_hashes": {},
    }
    # Before vLLM knows what the model's longest answer is and how it ends.
    early = read_request(asking({"processors": [], "given": []}, max_tokens=None, _all_stop_token_ids=set()))
    assert early["end_token_ids"] == [] and early["max_new_tokens"] == 0
    assert read_request(asking({"processors": [], "max_new_tokens": 99}, max_tokens=17))["max_new_tokens"] == 17


GONE = "/nowhere/at/all"


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ("{", f"{FIELD}: is not JSON"),
        ("[" * 100_000, f"{FIELD}: is not JSON"),
        ("[]", f"{FIELD}: is a list; give a map in JSON with the key processors"),
        (3, f"{FIELD}: is a whole number"),
        ({}, f"{FIELD}.processors: is missing"),
        ({"processors": [], "seed": 1}, f"{FIELD}.seed: is not known; allowed: processors, sample_seed"),
        ({"processors": {}}, f"{FIELD}.processors: is a map; give a list of steps"),
        ({"processors": "[]]"}, f"{FIELD}.processors: is text but not JSON"),
        ({"processors": [3]}, "processors[0]: is 3; allowed: a map with one step"),
        ({"processors": [{"top_k": 1, "top_p": 0.5}]}, "processors[0]: is"),
        ({"processors": [{"topp": 0.5}]}, 'processors[0].topp: the heuristic "topp" is not known; allowed: '),
        ({"processors": [{"name": [], "params": {}}]}, "the heuristic [] is not known"),
        ({"processors": [{"name": "top_p", "params": 0.5}]}, "processors[0].params: is a number"),
        (
            {"processors": [{"name": "top_p", "params": {"q": 1}}]},
            "processors[0].params: has q; top_p takes p: a number",
        ),
        ({"processors": [{"top_p": 1.5}]}, "processors[0].top_p: is 1.5; allowed: a number above 0"),
        ({"processors": [{"top_p": True}]}, "processors[0].top_p: is true; allowed: a number"),
        ({"processors": [{"top_p": None}]}, "processors[0].top_p: is null; allowed: a number"),
        ({"processors": [{"top_k": 2.5}]}, "processors[0].top_k: is 2.5; allowed: a whole number"),
        (
            {"processors": [{"temperature": float("nan")}]},
            "processors[0].temperature: is NaN; allowed: a number above 0",
        ),
        ({"processors": [{"temperature": 10**400}]}, "processors[0].temperature: is 1000"),
        ({"processors": [{"mirostat": 3}]}, "processors[0].mirostat: is 3; mirostat takes a map of tau and eta"),
        ({"processors": [{"mirostat": {"tau": 3}}]}, "processors[0].mirostat: has tau; mirostat takes tau: "),
        ({"processors": [{"p_less": 3}]}, "processors[0].p_less: is 3; p_less takes null"),
        ({"processors": [{"verbalized": 5}]}, "processors[0].verbalized: says how the model is asked"),
        ({"processors": [{"learned": 5}]}, "processors[0].learned: is 5; allowed: a saved sampler's folder"),
        ({"processors": [{"learned": "samplers/x"}]}, "is neither an absolute folder nor one of the hub's samplers"),
        (
            {"processors": [{"learned": "owner/name@main"}]},
            "is neither an absolute folder nor one of the hub's samplers",
        ),
        ({"processors": [{"learned": GONE}]}, f'"{GONE}" is in none of the allowed folders'),
        ({"processors": [{"learned": "/etc\0"}]}, "is in none of the allowed folders"),
        (
            {"processors": [], "sample_seed": -1},
            "sample_seed: is -1; allowed: a whole number from 0 to 18446744073709551615",
        ),
        ({"processors": [], "sample_seed": "1"}, 'sample_seed: is "1"; allowed'),
        ({"processors": [], "max_new_tokens": 2.0}, "max_new_tokens: is 2.0; allowed"),
        ({"processors": [], "max_new_tokens": 10**12}, "max_new_tokens: is 1000000000000; allowed"),
        ({"processors": [], "stop": "x"}, 'stop: is "x"; allowed: a list, each text'),
        ({"processors": [], "stop": [""]}, 'stop[0]: is ""; allowed: text that is not empty'),
        ({"processors": [], "end_token_ids": []}, "end_token_ids: is []; allowed: a list with at least one item"),
        ({"processors": [], "given": [1, -1]}, "given[1]: is -1; allowed"),
        ({"processors": [], "sampler_hashes": []}, "sampler_hashes: is a list; allowed: a map"),
        ({"processors": [], "sampler_hashes": {GONE: "0"}}, f'sampler_hashes.{GONE}: is "0"; allowed: a SHA-256'),
        ({"processors": [], "sampler_hashes": {GONE: "0" * 64}}, f"sampler_hashes: {GONE} is not among the processors"),
    ],
)
def test_wrong_parameters_are_refused_in_a_sentence(sampler, own, words):
    params = sampling_params(extra_args={FIELD: own if isinstance(own, str | int) else json.dumps(own)})
    with pytest.raises(ValueError) as refused:
        validate(params, None)
    assert words in str(refused.value) and "\n" not in str(refused.value) and len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n": 2}, "n: 2 with adaptive_samplers; all answers to one request would be the same"),
        ({"repetition_penalty": 1.1}, "repetition_penalty: 1.1 with adaptive_samplers, whose draws it would not reach"),
        ({"presence_penalty": 0.5}, "presence_penalty: 0.5 with"),
        ({"thinking_token_budget": 5}, "thinking_token_budget: is not possible"),
        ({"ignore_eos": True, "_all_stop_token_ids": set()}, "end_token_ids: is missing, and with ignore_eos"),
    ],
)
def test_what_vllm_would_not_give_is_refused_to_our_requests_alone(changes, words):
    with pytest.raises(Refused) as refused:
        validate(asking({"processors": HOT, "stop": ["x"]}, **changes), None)
    assert words in str(refused.value)
    validate(sampling_params(**changes), None)


def server(speculative=None, new=False, tokenizer=True):
    """What is looked at of a server's VllmConfig."""
    model = SimpleNamespace(skip_tokenizer_init=not tokenizer, get_vocab_size=lambda: VOCABULARY)
    return SimpleNamespace(speculative_config=speculative, use_v2_model_runner=new, model_config=model)


@pytest.mark.parametrize(
    ("config", "own", "words"),
    [
        (
            server(SimpleNamespace()),
            {},
            "decodes speculatively with vLLM's first model runner, which runs no processors",
        ),
        (server(SimpleNamespace(rejection_sample_method="synthetic"), True), {}, "accepts drafted tokens at random"),
        (server(SimpleNamespace(rejection_sample_method="strict"), True), {}, None),
        (server(tokenizer=False), {"stop": ["x"]}, "has no tokenizer"),
        (server(tokenizer=False), {}, None),
        (server(), {"given": [VOCABULARY]}, f"given: {VOCABULARY} is no token of this model"),
        (server(), {"failure_token_id": VOCABULARY}, f"failure_token_id: {VOCABULARY} is no token of this model"),
    ],
)
def test_what_a_server_cannot_do_is_refused(config, own, words):
    class InputProcessor:
        """Who asks in vLLM, some calls further up; only it knows the config."""

        vllm_config = config

        def process(self, params):
            (lambda: self.validate(params))()

        def validate(self, params):
            validate(params, vllm_processor._server_config())

    if words is None:
        InputProcessor().process(asking({"processors": HOT, **own}))
        return
    with pytest.raises(Refused) as refused:
        InputProcessor().process(asking({"processors": HOT, **own}))
    assert words in str(refused.value)
    InputProcessor().process(sampling_params())


def test_requests_read_nothing_but_the_allowed_folders(sampler, tmp_path, monkeypatch):
    folder = tmp_path / "results"
    build_sampler("SamplingNetwork", {**SMALL, "n_heads": 2}, seed=1).save_pretrained(folder / "here")
    (folder / "empty").mkdir()
    (folder / "away").symlink_to(sampler)
    monkeypatch.setenv(FOLDERS_VARIABLE, f"{tmp_path / 'other'}:{folder}")

    def learned(name, **others):
        return validate(asking({"processors": [{"learned": name}], **others}), None)

    learned(f"{folder}/here")
    learned(
        f"{folder}/empty/../here",
        sampler_hashes={f"{folder}/empty/../here": file_sha256(folder / "here/model.safetensors")},
    )
    for name in (sampler, f"{folder}/away", f"{folder}/here/../../../x", "/", f"{folder}x", "~", "."):
        with pytest.raises(Refused, match=r"none of the allowed folders|neither an absolute folder"):
            learned(name)
    with pytest.raises(Refused, match=r"has no config\.json"):
        learned(f"{folder}/empty")
    with pytest.raises(Refused, match="another one than the request means"):
        learned(f"{folder}/here", sampler_hashes={f"{folder}/here": "0" * 64})
    with pytest.raises(Refused, match="takes no"):
        learned({"path": f"{folder}/here", "preference": 0.5})
    (folder / "here" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(Refused, match="processors: "):
        learned(f"{folder}/here")
    monkeypatch.delenv(FOLDERS_VARIABLE)
    with pytest.raises(Refused, match="this server has no learned samplers"):
        learned(f"{folder}/here")


def test_a_sampler_of_the_hub_is_fetched_only_if_the_operator_names_it(sampler, monkeypatch):
    fetched = []

    def snapshot_download(repository, revision, allow_patterns):
        fetched.append((repository, revision, *allow_patterns))
        return sampler

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setenv(FOLDERS_VARIABLE, "/samplers:owner/name@0f3c")
    request._from_hub.cache_clear()
    for name in ("owner/name", "owner/name@main", "owner/other@0f3c", "owner/name@0f3c/.."):
        with pytest.raises(Refused):
            validate(asking({"processors": [{"learned": name}]}), None)
    assert not fetched
    read = read_request(asking({"processors": [{"learned": "owner/name@0f3c"}]}))
    assert fetched == [("owner/name", "0f3c", "config.json", "model.safetensors")]
    assert json.loads(read["processors"]) == [{"name": "learned", "params": {"path": sampler}}]


def test_a_sampler_that_was_trained_again_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDERS_VARIABLE, str(tmp_path))
    folder, found = tmp_path / "sampler", []
    for seed in (0, 1):
        sampler = build_sampler("LocalProbabilityTransform", {"hidden_dims": 8}, seed=seed)
        for weights in sampler.parameters():
            weights.data.add_(0.5 * seed)
        sampler.save_pretrained(folder)
        runners = [one_row({"processors": [{"learned": str(folder)}], "sample_seed": row}) for row in range(30)]
        found.append([drawn(runner.apply(logits_after([1], [])[None]))[0] for runner in runners])
    assert found[0] != found[1]


def test_masked_tokens_are_not_drawn():
    """Those that vLLM has masked before: by a grammar, bad words, allowed tokens."""
    logits = torch.full((1, VOCABULARY), -torch.inf)
    logits[0, [3, 50]] = torch.tensor([0.0, 1.0])
    seen = set()
    for seed in range(20):
        for chain in (HOT, MIROSTAT, [{"min_p": 0.1}], []):
            seen |= {*drawn(one_row({"processors": chain, "sample_seed": seed}).apply(logits.clone()))}
    assert seen == {3, 50}


@pytest.mark.parametrize("failure", [{}, {"failure_token_id": 2}])
def test_what_cannot_be_drawn_ends_its_answer_alone(failure, sampler, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.ERROR)
    other = Asked([1], {"processors": HOT, "sample_seed": 4})
    away = tmp_path / "away"
    build_sampler("SamplingNetwork", {**SMALL, "n_heads": 2}, seed=1).save_pretrained(away)
    monkeypatch.setenv(FOLDERS_VARIABLE, str(tmp_path))
    validate(asking({"processors": [{"learned": str(away)}], **failure}), None)
    (away / "model.safetensors").unlink()
    added = [
        (0, asking(other.own), [1], []),
        (1, asking({"processors": HOT, **failure}), [1], []),  # its logits are not numbers
        (2, asking({"processors": MIROSTAT, **failure}), [1], [5]),  # nobody knows its state
        (3, asking({"processors": [{"learned": str(away)}], **failure}), [1], []),  # its sampler is gone
        (4, asking({"processors": [], "given": [VOCABULARY + 5], **failure}), [1], []),
        (5, sampling_params(), [1], []),
    ]
    runner = OldRunner(Answers(decode))
    runner.update(BatchUpdate(6, [], added, []))
    for _ in range(2):
        raw = torch.stack([logits_after([1], [])] * 6)
        raw[1] = torch.nan
        logits = runner.apply(raw.clone())
        assert drawn(logits[:5]) == [other.answer[0], *[failure.get("failure_token_id", ENDS[0])] * 4]
        assert logits[5].equal(raw[5])
    said = " ".join(record.getMessage() + str(record.exc_info[1]) for record in caplog.records)
    assert len(caplog.records) == 4, "each once"
    for words in ("are not numbers", "state of its pipeline before token 1", "model.safetensors", f"{VOCABULARY + 5}"):
        assert words in said


def test_stateful_answers_to_the_same_parameters_are_told_apart_by_their_prompts():
    seed = next(seed for seed in range(99) if uniforms(seed, 1)[0] < 0.5)
    answers, own = Answers(decode), {"processors": MIROSTAT, "sample_seed": seed}
    runner, params = OldRunner(answers), asking(own)
    # Two prompts whose first tokens are the same, from logits that differ.
    tokens = [5, 5]
    runner.update(BatchUpdate(2, [], [(0, params, [1], first := []), (1, params, [2], second := [])], []))
    logits = torch.full((2, VOCABULARY), -torch.inf)
    logits[:, 5] = 0.0
    logits[1, 6] = -1.0
    assert drawn(runner.apply(logits)) == tokens
    expected = runner.rows[1][0].states[1]
    assert runner.rows[0][0].states[1] != expected
    first.append(tokens[0]), second.append(tokens[1])
    runner.update(BatchUpdate(0, [1, 0], [], []))
    runner.update(BatchUpdate(1, [], [(0, params, [2], [5])], []))
    assert runner.rows[0][0].states[1] == expected


def test_the_state_has_an_effect():
    asked = Asked([1], {"processors": MIROSTAT, "sample_seed": 3})
    fresh = []
    for place in range(LONGEST):
        draws = Draws.start(configured_pipeline(MIROSTAT), 3, LONGEST)
        drawn = draw_tokens(logits_after([1], asked.answer[:place]).log_softmax(-1)[None], [0], [draws], [place])
        [token] = drawn.token_ids
        fresh.append(token)
    assert fresh != asked.answer


def test_little_is_kept_of_long_answers(monkeypatch):
    monkeypatch.setattr(vllm_processor, "KEPT", 4)
    runner = one_row({"processors": MIROSTAT}, max_tokens=40)
    ((answer, token_ids),) = runner.rows.values()
    for _ in range(20):
        token_ids += drawn(runner.apply(logits_after([1], token_ids)[None]))
    assert sorted(answer.states) == [17, 18, 19, 20] and answer.token_ids == token_ids


def test_the_class_for_vllm_is_made_only_where_vllm_is():
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'adaptive-samplers\[vllm\]'"):
        _ = vllm_processor.PipelineProcessor
    with pytest.raises(AttributeError):
        _ = vllm_processor.Other
