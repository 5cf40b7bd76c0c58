"""The processor as SGLang calls it, without a server: draws, states, ends, records and failures."""

import json
import weakref
from types import SimpleNamespace

import pytest
import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from adaptive_samplers.heuristics import configured_pipeline
from adaptive_samplers.randomness import uniforms
from adaptive_samplers.serving.processor import PipelineProcessor, request_parameters, serialized
from adaptive_samplers.serving.request import FIELD, FOLDERS_VARIABLE

VOCABULARY, END = 300, [7, 9]


@pytest.fixture(autouse=True)
def all_folders(monkeypatch):
    """As servers have it that jobs start."""
    monkeypatch.setenv(FOLDERS_VARIABLE, "/")


class Request(SimpleNamespace):
    """What the processor sees of SGLang's request."""


def asked(chain, seed=1, max_new_tokens=20, stop=(), hashes=None) -> tuple[Request, dict]:
    tokenizer = SimpleNamespace(decode=lambda ids, skip_special_tokens: " ".join(map(str, ids)), eos_token_id=END[1])
    request = Request(output_ids=[], customized_info=None, tokenizer=tokenizer, eos_token_ids={END[0]})
    request.sampling_params = SimpleNamespace(max_new_tokens=max_new_tokens + 1, stop_token_ids=set(END))
    parameters = request_parameters(configured_pipeline(chain), seed, max_new_tokens, stop, END, hashes or {})
    # SGLang hands out a weak reference.
    return request, {**json.loads(json.dumps(parameters)), "__req__": weakref.proxy(request)}


def logits_at(step: int, rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    logits = 4 * torch.randn(rows, VOCABULARY, generator=generator)
    logits[:, END] = -30.0
    return logits


def steps(requests: list, count: int, start: int = 0) -> None:
    """Let SGLang go on: every step, the only finite logit of a row is its next token."""
    for step in range(start, start + count):
        logits = logits_at(step, len(requests))
        output = PipelineProcessor()(logits.clone(), [parameters for _, parameters in requests])
        assert output.shape == logits.shape and (torch.isfinite(output).sum(-1) == 1).all()
        for (request, _), row in zip(requests, output, strict=True):
            request.output_ids.append(int(row.argmax()))


def test_draws_equal_the_warpers_and_the_inverse_cdf():
    requests = [asked([{"temperature": 0.7}, {"top_p": 0.8}], seed=seed) for seed in range(6)]
    steps(requests, 5)
    warpers = LogitsProcessorList([TemperatureLogitsWarper(0.7), TopPLogitsWarper(0.8)])
    for row, (request, _) in enumerate(requests):
        for step, token in enumerate(request.output_ids):
            raw = logits_at(step, 6)[row]
            order = torch.argsort(raw, descending=True, stable=True)
            cumulative = torch.softmax(warpers(None, raw[None])[0].double(), -1)[order].cumsum(0)
            number = uniforms(row, step + 1)[step]
            assert token == order[int((cumulative <= number * cumulative[-1]).sum())]
            logprob, end = request.customized_info[FIELD][step]
            log_probs = raw.double().log_softmax(-1)
            assert logprob == pytest.approx(float(log_probs[token]), abs=1e-4)
            assert end == pytest.approx(float(log_probs[END].logsumexp(0)), abs=1e-4)


def test_given_tokens_are_measured_and_neither_drawn_nor_a_matter_for_neighbors():
    given = [5, 250, 17]
    reading = asked([], max_new_tokens=3)
    reading[1]["given"] = given
    requests = [asked([{"temperature": 0.7}], seed=seed) for seed in range(2)]
    steps([requests[0], reading, requests[1]], 4)
    assert reading[0].output_ids == [*given, END[0]] and not hasattr(reading[0], "adaptive_samplers_draws")
    for step, token in enumerate([*given, None]):
        log_probs = logits_at(step, 3)[1].double().log_softmax(-1)
        value, end = reading[0].customized_info[FIELD][step]
        assert value == (None if token is None else pytest.approx(float(log_probs[token]), abs=1e-4))
        assert end == pytest.approx(float(log_probs[END].logsumexp(0)), abs=1e-4)
    alone = asked([{"temperature": 0.7}], seed=1)
    for step in range(4):
        alone[0].output_ids.append(int(PipelineProcessor()(logits_at(step, 3)[2:], [alone[1]])[0].argmax()))
    assert alone[0].output_ids == requests[1][0].output_ids


def test_neighbors_do_not_matter_and_states_stay_with_their_request():
    chains = [[{"mirostat": {"tau": 3.0, "eta": 0.9}}], [{"temperature": 1.5}], [{"min_p": 0.1}]]
    together = [asked(chain, seed=3) for chain in chains]
    steps(together, 8)
    for row, chain in enumerate(chains):
        alone = asked(chain, seed=3)
        for step in range(8):
            output = PipelineProcessor()(logits_at(step, 3)[row : row + 1], [alone[1]])
            alone[0].output_ids.append(int(output[0].argmax()))
        assert alone[0].output_ids == together[row][0].output_ids
    # The state has an effect: without it, the answer would be another one.
    fresh = asked(chains[0], seed=3)
    for step in range(8):
        fresh[0].output_ids.append(int(PipelineProcessor()(logits_at(step, 3)[:1], [fresh[1]])[0].argmax()))
        del fresh[0].adaptive_samplers_draws
    assert fresh[0].output_ids != together[0][0].output_ids


def test_a_step_that_is_made_again_is_the_same():
    (request, parameters) = asked([{"top_k": 5}])
    steps([(request, parameters)], 3)
    token, records = request.output_ids[-1], list(request.customized_info[FIELD])
    request.output_ids.pop()
    steps([(request, parameters)], 1, start=2)
    assert request.output_ids[-1] == token and request.customized_info[FIELD] == records


def test_the_longest_answer_and_stop_strings_end_with_an_end_token():
    def requests(**changes):
        return (
            asked([{"temperature": 1.0}], max_new_tokens=2),
            asked([{"temperature": 1.0}], seed=2, **changes),
            asked([{"temperature": 1.0}], seed=3),
        )

    first = requests()
    steps(first, 1)
    short, stopped, plain = requests(stop=[str(first[1][0].output_ids[0])])
    steps([short, stopped, plain], 3)
    assert short[0].output_ids[2] == END[0] and short[0].customized_info[FIELD][2][0] is None
    assert stopped[0].output_ids[1] == END[0] and len(stopped[0].customized_info[FIELD][1]) == 2
    assert not set(plain[0].output_ids) & set(END)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"processors": "[]]"}, "adaptive_samplers.processors: is text but not JSON"),
        ({"processors": '[{"name": "x", "params": {}}]'}, 'the heuristic "x" is not known'),
        ({"processors": [{"learned": "/nowhere/at/all"}]}, "has no config.json; name the folder of a saved sampler"),
        ({"max_new_tokens": None}, "adaptive_samplers.max_new_tokens: is null; allowed: a whole number"),
        ({"sampler_hashes": {"/nowhere/at/all": "0" * 64}}, "/nowhere/at/all is not among the processors"),
        ({"top_p": 0.9}, "adaptive_samplers.top_p: is not known"),
    ],
)
def test_a_failure_is_recorded_and_ends_its_request_alone(change, words):
    requests = [asked([{"top_p": 0.9}], seed=seed) for seed in range(3)]
    requests[1][1].update(change)
    steps(requests, 1)
    bad = requests[1][0]
    assert words in bad.customized_info[FIELD][0]["error"] and bad.output_ids == [END[0]]
    well = [asked([{"top_p": 0.9}], seed=seed) for seed in range(3)]
    steps(well, 1)
    for row in (0, 2):
        assert requests[row][0].output_ids == well[row][0].output_ids
        assert len(requests[row][0].customized_info[FIELD]) == 1


def test_a_request_that_says_how_to_draw_and_no_more_has_the_rest_from_sglang():
    said, full = asked([{"top_k": 5}], seed=11, max_new_tokens=3), asked([{"top_k": 5}], seed=11, max_new_tokens=3)
    parameters = {"processors": [{"top_k": 5}], "__req__": said[1]["__req__"]}
    said[0].sampling_params = SimpleNamespace(max_new_tokens=3, stop_token_ids=None, sampling_seed=11)
    steps([(said[0], parameters)], 3)
    steps([full], 3)
    assert said[0].output_ids == full[0].output_ids and set(said[0].output_ids).isdisjoint(END)
    penalized = asked([{"top_k": 5}])
    penalized[0].sampling_params.frequency_penalty = 0.5
    steps([penalized], 1)
    assert "frequency_penalty: 0.5 with adaptive_samplers" in penalized[0].customized_info[FIELD][0]["error"]


def test_a_request_without_parameters_is_left_to_sglang_and_the_server_lives(caplog):
    request, parameters = asked([{"top_k": 5}])
    logits = logits_at(0, 2)
    output = PipelineProcessor()(logits, [None, {**parameters, "__sglang_of_its_own": [3]}])
    assert torch.equal(output[0], logits[0]) and torch.isfinite(output[1]).sum() == 1
    assert "no custom_params" in caplog.text and len(request.customized_info[FIELD]) == 1
    assert torch.equal(PipelineProcessor()(logits, None), logits)


def test_samplers_are_read_from_allowed_folders_alone(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDERS_VARIABLE, str(tmp_path / "allowed"))
    request = asked([{"learned": str(tmp_path / "other")}])
    steps([request], 1)
    assert "is in none of the allowed folders" in request[0].customized_info[FIELD][0]["error"]


def test_a_sampler_that_was_trained_again_is_read_again(tmp_path):
    from adaptive_samplers.hashing import file_sha256
    from adaptive_samplers.samplers import build_sampler

    folder = str(tmp_path / "LocalProbabilityTransform" / "a0_b1_c0_top2")
    drawn = []
    for seed in (0, 1):
        sampler = build_sampler("LocalProbabilityTransform", {"hidden_dims": 8}, seed=seed)
        for weights in sampler.parameters():
            weights.data.add_(0.5 * seed)
        sampler.save_pretrained(folder)
        hashes = {folder: file_sha256(f"{folder}/model.safetensors")}
        requests = [asked([{"learned": folder}], seed=row, hashes=hashes) for row in range(40)]
        steps(requests, 1)
        assert all("error" not in request.customized_info[FIELD][0] for request, _ in requests)
        drawn.append([request.output_ids[0] for request, _ in requests])
    assert drawn[0] != drawn[1]
    stale = asked([{"learned": folder}], hashes={folder: "0" * 64})
    steps([stale], 1)
    assert "another one than the request means" in stale[0].customized_info[FIELD][0]["error"]


def test_a_preference_travels_with_the_request(tmp_path):
    """What is drawn is what the network at that preference draws, saved on its own."""
    from adaptive_samplers.hashing import file_sha256
    from adaptive_samplers.samplers import build_sampler

    sampler = build_sampler("ConditionedSamplingNetwork", {"d_model": 8, "d_ff": 12, "n_blocks": 1}, seed=0)
    torch.nn.init.normal_(sampler.shifts.weight, generator=torch.Generator().manual_seed(0))
    sampler.save_pretrained(tmp_path / "front")
    front, drawn = str(tmp_path / "front"), {}
    for preference in (0, 1):
        sampler.at(preference).save_pretrained(tmp_path / f"at{preference}")
        for setting in ({"path": front, "preference": preference}, str(tmp_path / f"at{preference}")):
            folder = front if isinstance(setting, dict) else setting
            hashes = {folder: file_sha256(f"{folder}/model.safetensors")}
            requests = [asked([{"learned": setting}], seed=row, hashes=hashes) for row in range(40)]
            steps(requests, 1)
            drawn[folder, preference] = [request.output_ids[0] for request, _ in requests]
    assert all(
        drawn[front, preference] == drawn[str(tmp_path / f"at{preference}"), preference] for preference in (0, 1)
    )
    assert drawn[front, 0] != drawn[front, 1]


def test_what_travels_is_a_reference_and_no_code():
    pickled = bytes.fromhex(json.loads(serialized())["callable"])
    assert b"adaptive_samplers.serving.processor" in pickled and b"PipelineProcessor" in pickled and len(pickled) < 120
