"""Real SGLang and vLLM servers: what our processor costs, and these engines against the one in process."""

import json
import os
import pickle
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from cases import Case

FOLDER = Path(__file__).parents[1]
REPOSITORY = FOLDER.parent
TOKENS, MANY_TOKENS = 16, 32
END = 1  # a token that the model never draws, so that all answers are as long


class Served(NamedTuple):
    """A server, and how it is asked for the same without our processor.

    `plain` makes that request of one of ours, and `arguments` are of a server that answers it, where it needs another.
    """

    kind: Any
    settings: type
    engine: type
    payloads: type
    plain: Callable[[dict], dict]
    arguments: Sequence[str] = ()


def cases() -> Iterator[Case]:
    from embedded_model import default_config, fetch_embedded_model

    from adaptive_samplers.config.model.sources import BaseModelSettings
    from adaptive_samplers.config.typed import typed_section
    from adaptive_samplers.engines.transformers_engine import TransformersEngine
    from adaptive_samplers.models.language_model import LanguageModel
    from adaptive_samplers.samplers import build_sampler
    from adaptive_samplers.serving.service import serve

    config = default_config()
    on_cpu = {"dtype": config["model"]["dtype"], "device": "cpu", "trust_remote_code": False}
    on_cpu = typed_section(on_cpu, BaseModelSettings)
    # Of the identity processors, and of what SGLang needs without a GPU.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(FOLDER), str(REPOSITORY / "tests" / "sglang_cpu" / "shims")])
    with tempfile.TemporaryDirectory() as folder:
        saved, log = Path(folder) / "SamplingNetwork" / "a0_b1_c0_top2", Path(folder) / "server.log"
        build_sampler("SamplingNetwork", {}, seed=0).save_pretrained(saved)
        network = [{"learned": str(saved)}]
        place = fetch_embedded_model(Path(folder))
        model = LanguageModel(place, device="cpu")
        for served in (_sglang(), _vllm()):
            name = served.kind.name
            command = [REPOSITORY / "tests" / f"{name}_cpu" / "install.sh"]
            python = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            settings = served.settings(**config["generation"][name] | {"python": python, "concurrency": 64})
            plain_settings = settings.model_copy(update={"arguments": list(served.arguments)})
            with ExitStack() as stack:
                pool = stack.enter_context(serve(served.kind, settings, on_cpu, place, log))
                plain_pool = pool
                if served.arguments:
                    plain_pool = stack.enter_context(serve(served.kind, plain_settings, on_cpu, place, log))
                for chain, steps, bar in (("top_p", [{"top_p": 0.9}], 0.91), ("learned_network", network, 0.87)):
                    ours = list(served.payloads(_same_prompt(steps), [END]))
                    plain = [served.plain(body) for body in ours]
                    yield (
                        {
                            "name": f"engine/{name}_processor_{chain}",
                            "against": "the same requests with a processor that returns its input",
                            "batch": len(ours),
                            "vocabulary": 49_152,
                            "unit": "seconds for all answers",
                            "bar": bar,
                        },
                        partial(_send, plain_pool, served.engine.path, plain),
                        partial(_send, pool, served.engine.path, ours),
                    )
                engines = TransformersEngine(model, 64), served.engine(model, partial(nullcontext, pool))
                for what, asked, bar in (
                    ("many_prompts", _many_prompts(model), 2 if name == "vllm" else None),
                    ("mixed", _mixed(model, network), None),
                ):
                    yield (
                        {
                            "name": f"engine/{name}_{what}",
                            "against": "the engine in process",
                            "batch": len(asked),
                            "vocabulary": 49_152,
                            "unit": "seconds for all answers",
                            "bar": bar,
                        },
                        *(partial(_generate, engine, asked) for engine in engines),
                    )


def _sglang() -> Served:
    from identity_processor import IdentityProcessor

    from adaptive_samplers.config.model.generation import SGLang
    from adaptive_samplers.engines.sglang_engine import Payloads, SGLangEngine
    from adaptive_samplers.serving.kinds import SGLANG

    identity = json.dumps({"callable": pickle.dumps(IdentityProcessor).hex()})
    plain = {"max_new_tokens": TOKENS + 1, "temperature": 1.0, "ignore_eos": True, "custom_params": {}}
    return Served(
        SGLANG,
        SGLang,
        SGLangEngine,
        Payloads,
        lambda body: {**body, "sampling_params": plain, "custom_logit_processor": identity},
    )


def _vllm() -> Served:
    from adaptive_samplers.config.model.generation import VLLM as Settings
    from adaptive_samplers.engines.vllm_engine import Payloads, VLLMEngine
    from adaptive_samplers.serving.kinds import VLLM

    return Served(
        VLLM,
        Settings,
        VLLMEngine,
        Payloads,
        lambda body: {key: value for key, value in body.items() if key != "vllm_xargs"} | {"temperature": 1.0},
        ["--logits-processors", "identity_processor:VLLMIdentityProcessor"],
    )


def _same_prompt(steps: list[dict]) -> list:
    """Some prompt; what it says does not matter."""
    from adaptive_samplers.engines import Request
    from adaptive_samplers.heuristics import configured_pipeline
    from adaptive_samplers.randomness import sample_seed

    pipeline = configured_pipeline(steps)
    return [Request(tuple(range(20, 60)), pipeline, sample_seed(1, str(i), 0), TOKENS) for i in range(32)]


def _many_prompts(model: Any) -> list:
    """One heuristic, and no two answers with the same prompt."""
    return _requests(model, [[{"temperature": 0.7}]], 64)


def _mixed(model: Any, network: list[dict]) -> list:
    chains = [[{"temperature": 0.7}], [{"top_p": 0.9}], [{"min_p": 0.1}], [{"mirostat": {"tau": 3.0, "eta": 0.5}}]]
    return _requests(model, [*chains, network], 13)


def _requests(model: Any, chains: list[list[dict]], prompts: int) -> list:
    from adaptive_samplers.engines import Request
    from adaptive_samplers.heuristics import configured_pipeline
    from adaptive_samplers.randomness import sample_seed

    lines = (REPOSITORY / "resources" / "prompts.jsonl").read_text().splitlines()
    questions = [json.loads(line)["prompt"] for line in lines[:: len(lines) // prompts][:prompts]]
    encoded = {question: model.encode_chat([{"role": "user", "content": question}]) for question in questions}
    return [
        Request(tuple(tokens), configured_pipeline(chain), sample_seed(1, question, 0), MANY_TOKENS)
        for question, tokens in encoded.items()
        for chain in chains
    ]


def _send(pool: Any, path: str, bodies: list[dict]) -> None:
    for _, reply in pool.run(path, bodies):
        assert reply.error is None, reply.error


def _generate(engine: Any, asked: list) -> None:
    for completion in engine.generate(asked):
        assert completion.error is None, completion.error
