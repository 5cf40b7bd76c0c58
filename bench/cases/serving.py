"""A real SGLang server on this machine."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cases import Case

FOLDER = Path(__file__).parents[1]


def cases() -> Iterator[Case]:
    """What our processor adds to a real SGLang server on this machine, against one that returns its input."""
    import json
    import pickle

    from embedded_model import default_config, fetch_embedded_model
    from identity_processor import IdentityProcessor

    from adaptive_samplers.config.model.generation import SGLang
    from adaptive_samplers.config.model.sources import BaseModelSettings
    from adaptive_samplers.config.typed import typed_section
    from adaptive_samplers.engines import Request
    from adaptive_samplers.engines.sglang_engine import Payloads
    from adaptive_samplers.heuristics import configured_pipeline
    from adaptive_samplers.randomness import sample_seed
    from adaptive_samplers.samplers import build_sampler
    from adaptive_samplers.serving.kinds import SGLANG
    from adaptive_samplers.serving.service import serve

    repository = FOLDER.parent
    install = subprocess.run([repository / "tests/sglang_cpu/install.sh"], capture_output=True, text=True, check=True)
    config = default_config()
    model, tokens, end = config["model"], 16, 1  # a token that this model never draws, so that all answers are as long
    shims = [str(FOLDER), str(repository / "tests" / "sglang_cpu" / "shims")]
    os.environ["PYTHONPATH"] = os.pathsep.join(shims)
    sizes = {"python": install.stdout.strip(), "concurrency": 32}
    settings = SGLang(**config["generation"]["sglang"] | sizes)
    on_cpu = {"dtype": model["dtype"], "device": "cpu", "trust_remote_code": False}
    on_cpu = typed_section(on_cpu, BaseModelSettings)
    with tempfile.TemporaryDirectory() as folder:
        place, saved = fetch_embedded_model(Path(folder)), Path(folder) / "SamplingNetwork" / "a0_b1_c0_top2"
        build_sampler("SamplingNetwork", {}, seed=0).save_pretrained(saved)
        with serve(SGLANG, settings, on_cpu, place, Path(folder) / "server.log") as pool:

            def bodies(setting: dict) -> list[dict]:
                pipeline = configured_pipeline([setting])
                # Some prompt; what it says does not matter.
                asked = [Request(tuple(range(20, 60)), pipeline, sample_seed(1, str(i), 0), tokens) for i in range(32)]
                return list(Payloads(asked, [end]))

            identity = json.dumps({"callable": pickle.dumps(IdentityProcessor).hex()})
            plain = {"max_new_tokens": tokens + 1, "temperature": 1.0, "ignore_eos": True, "custom_params": {}}
            baseline = [
                {**body, "sampling_params": plain, "custom_logit_processor": identity}
                for body in bodies({"top_p": 0.9})
            ]

            def send(payloads: list[dict]) -> None:
                for _, reply in pool.run("/generate", payloads):
                    assert reply.error is None, reply.error

            for name, setting in {"top_p": {"top_p": 0.9}, "learned_network": {"learned": str(saved)}}.items():
                ours = bodies(setting)
                yield (
                    {
                        "name": f"engine/sglang_processor_{name}",
                        "against": "the same requests with a processor that returns its input",
                        "batch": 32,
                        "vocabulary": 49_152,
                        "unit": "seconds for all answers",
                    },
                    lambda: send(baseline),
                    lambda of=ours: send(of),
                )
