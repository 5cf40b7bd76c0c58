"""The processor in the real vLLM: in its own classes, and in a server, which finds it by its entry point."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import torch

from adaptive_samplers.engines import Request
from adaptive_samplers.engines.base import sampler_hashes
from adaptive_samplers.engines.transformers_engine import TransformersEngine
from adaptive_samplers.heuristics import configured_pipeline
from adaptive_samplers.samplers import build_sampler
from adaptive_samplers.serving.processor import request_parameters
from adaptive_samplers.serving.request import FIELD, FOLDERS_VARIABLE
from served_requests import CHAINS, answers, distance_to_boundary, make_requests
from support import REPOSITORY

pytestmark = [pytest.mark.model, pytest.mark.vllm]

# The CPU build takes these; without the first, a kernel that counts is compiled for half a minute.
ENVIRONMENT = {
    "TORCH_COMPILE_DISABLE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_NUM_THREADS": "2",
    "HF_HUB_OFFLINE": "1",
}
KEY, NAME = "a key", "embedded"
# So little memory that requests in flight are preempted.
BLOCKS, BLOCK_SIZE, LONGEST_TEXT = 40, 32, 512


@pytest.fixture(scope="module")
def sampler(tmp_path_factory) -> Path:
    """A saved sampler in a folder that requests may name."""
    folder = tmp_path_factory.mktemp("samplers") / "SamplingNetwork"
    build_sampler("SamplingNetwork", {}, seed=3).save_pretrained(folder)
    return folder


def environment(sampler: Path, *paths: Path) -> dict[str, str]:
    """Of a process with vLLM in which our library can be imported."""
    path = os.pathsep.join(map(str, [REPOSITORY / "scripts", *paths]))
    return {**os.environ, **ENVIRONMENT, FOLDERS_VARIABLE: str(sampler.parent), "PYTHONPATH": path, "VLLM_API_KEY": KEY}


def test_rows_and_slots_in_vllms_own_classes(vllm_python, sampler, tmp_path):
    small = tmp_path / "small"
    build_sampler("SamplingNetwork", {"d_model": 8, "d_ff": 12, "n_blocks": 1, "n_heads": 2}, seed=3).save_pretrained(
        small
    )
    done = subprocess.run(
        [vllm_python, REPOSITORY / "tests" / "vllm_real.py", small],
        env=environment(small, REPOSITORY / "tests"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert min(found["old"], found["new"], found["drafts"]) > 500
    assert all('processors[0].topp: the heuristic "topp" is not known' in words for words in found["refused"])


@dataclass
class Server:
    """A vLLM server, as its clients see it."""

    url: str

    def post(self, body: dict[str, Any]) -> requests.Response:
        headers = {"Authorization": f"Bearer {KEY}"}
        return requests.post(f"{self.url}/v1/completions", json={"model": NAME, **body}, headers=headers, timeout=300)

    def choices(self, bodies: list[dict[str, Any]], at_once: int = 64) -> list[dict[str, Any]]:
        """The answers to requests that are all under way at once."""
        with ThreadPoolExecutor(at_once) as pool:
            replies = list(pool.map(self.post, bodies))
        assert {reply.status_code for reply in replies} == {200}, replies[0].text
        return [reply.json()["choices"][0] for reply in replies]

    def preemptions(self) -> int:
        """How often a request has lost its memory to another."""
        found = re.search(
            r"^vllm:num_preemptions_total\{.*\} (\S+)$", requests.get(f"{self.url}/metrics", timeout=60).text, re.M
        )
        return int(float(found[1]))


@pytest.fixture(scope="module")
def server(vllm_python, model_folder, sampler, tmp_path_factory) -> Iterator[Server]:
    """A server of the embedded model, to which nobody has told of our processor."""
    folder = tmp_path_factory.mktemp("server")
    # As `pip install` leaves it.
    information = folder / "adaptive_samplers-0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: adaptive-samplers\nVersion: 0\n")
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in own.items())
        for group, own in declared.items()
    ]
    (information / "entry_points.txt").write_text("\n".join(lines))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [vllm_python, "-m", "vllm.entrypoints.openai.api_server", "--model", model_folder, "--dtype", "float32"]
    command += ["--served-model-name", NAME, "--generation-config", "vllm", "--enforce-eager"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", str(LONGEST_TEXT)]
    command += ["--block-size", str(BLOCK_SIZE), "--num-gpu-blocks-override", str(BLOCKS), "--max-num-seqs", "48"]
    log = folder / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            list(map(str, command)),
            env=environment(sampler, folder),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        found, started = Server(f"http://127.0.0.1:{port}"), time.monotonic()
        while True:
            assert process.poll() is None and time.monotonic() < started + 300, log.read_text()[-5000:]
            try:
                if requests.get(f"{found.url}/health", timeout=10).ok:
                    break
            except requests.RequestException:
                time.sleep(0.5)
        yield found
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def asking(request: Request, ends: list[int]) -> dict[str, Any]:
    """The body of a request for an answer, and for the log-probability of ending at each place."""
    hashes = sampler_hashes([request.pipeline])
    own = request_parameters(
        request.pipeline, request.sample_seed, request.max_new_tokens, request.stop, ends, hashes, request.given
    )
    return {
        "prompt": list(request.prompt_token_ids),
        "max_tokens": request.max_new_tokens + 1,
        "temperature": 0,
        "ignore_eos": True,
        "stop_token_ids": ends,
        "logprobs": len(ends),
        "logprob_token_ids": ends,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "vllm_xargs": {FIELD: json.dumps(own)},
    }


def test_answers_are_those_in_process_and_those_of_others_their_own(server, model, sampler):
    ends = model.end_token_ids
    asked = make_requests(model, [*CHAINS, [{"learned": str(sampler)}]], prompts=3, max_new_tokens=40)
    asked += make_requests(model, CHAINS[:1], prompts=4, max_new_tokens=24, stop=(".", " the"))
    prompt, text = asked[0].prompt_token_ids, model.encode("The sea is wide.")
    asked += [Request.reading(prompt, text), Request.reading(prompt, [])]
    # Of others: one that draws by vLLM's own sampler and seed, and a greedy one.
    plain = {"prompt": list(prompt), "max_tokens": 40, "return_token_ids": True, "ignore_eos": True}
    others = [{**plain, "temperature": 0.8, "seed": seed} for seed in range(3)] + [{**plain, "temperature": 0}]
    alone = server.choices(others, at_once=1)
    before = server.preemptions()
    replies = server.choices([*others, *(asking(request, ends) for request in asked)])
    assert server.preemptions() > before
    assert [reply["token_ids"] for reply in replies[: len(others)]] == [reply["token_ids"] for reply in alone]
    greedy = Request(prompt, configured_pipeline([{"top_k": 1}]), 0, 40)
    in_process = answers(TransformersEngine(model, batch_size=64), [*asked, greedy])
    same = len(in_process[-1].token_ids)
    assert alone[-1]["token_ids"][:same] == in_process[-1].token_ids
    differing = []
    for request, ours, reply in zip(asked, in_process, replies[len(others) :], strict=False):
        *token_ids, last = reply["token_ids"]
        assert last in ends and reply["finish_reason"] == "stop" and ours.error is None
        if token_ids != ours.token_ids:
            differing.append(distance_to_boundary(model, request, ours.token_ids, token_ids))
            continue
        logprobs = reply["logprobs"]
        assert logprobs["token_logprobs"][:-1] == pytest.approx(ours.token_logprobs, abs=2e-3)
        ending = [[place[f"token_id:{end}"] for end in ends] for place in logprobs["top_logprobs"]]
        assert torch.tensor(ending).logsumexp(-1).tolist() == pytest.approx(ours.end_logprobs, abs=2e-3)
    print(f"{len(differing)} of {len(asked)} answers differ; distances to a boundary: {differing}")
    # Tokens of little probability lie close together.
    assert len(differing) <= 0.05 * len(asked) and all(distance < 1e-5 for distance in differing)


def test_a_short_request_gets_the_same_answer(server, model):
    prompt = list(make_requests(model, CHAINS[:1], prompts=1)[0].prompt_token_ids)
    chain = [{"temperature": 0.9}, {"top_p": 0.95}]
    own = {FIELD: json.dumps({"processors": chain, "sample_seed": 12})}
    body = {"prompt": prompt, "max_tokens": 20, "return_token_ids": True, "vllm_xargs": own}
    [wanted] = answers(TransformersEngine(model, 1), [Request(tuple(prompt), configured_pipeline(chain), 12, 20)])
    # vLLM's own sampling parameters have nothing to decide.
    for neutral in ({}, {"temperature": 0.1}, {"top_p": 0.2, "top_k": 3, "min_p": 0.3}, {"seed": 5}):
        reply = server.post(body | neutral).json()["choices"][0]
        assert reply["token_ids"][: len(wanted.token_ids)] == wanted.token_ids


@pytest.mark.parametrize(
    ("own", "others", "words"),
    [
        ("{", {}, f"{FIELD}: is not JSON"),
        ({"processors": [{"top_p": 7}]}, {}, f"{FIELD}.processors[0].top_p: is 7; allowed: a number above 0"),
        ({"processors": [{"learned": "/etc"}]}, {}, '"/etc" is in none of the allowed folders'),
        ({"processors": [], "given": [10**6]}, {}, "given: 1000000 is no token of this model"),
        ({"processors": []}, {"n": 2}, "n: 2 with adaptive_samplers"),
        ({"processors": []}, {"repetition_penalty": 1.1}, "repetition_penalty: 1.1 with adaptive_samplers"),
    ],
)
def test_wrong_parameters_are_refused_with_a_sentence_and_the_server_lives(server, own, others, words):
    own = own if isinstance(own, str) else json.dumps(own)
    reply = server.post({"prompt": [1, 504], "max_tokens": 2, "vllm_xargs": {FIELD: own}, **others})
    assert reply.status_code == 400 and words in reply.json()["error"]["message"], reply.text
    assert server.post({"prompt": [1, 504], "max_tokens": 2}).status_code == 200
