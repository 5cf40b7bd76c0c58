"""The kinds of servers that jobs can start or use: all in which one differs from another."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from adaptive_samplers.models.chat_tokenizer import ChatTokenizer

# By which vLLM finds our processor, in the server: it imports it.
VLLM_PROCESSOR = "adaptive_samplers.serving.vllm_processor:PipelineProcessor"

Task = Literal["generate", "embedding"]  # to write answers, or to score texts with a model that does that


class Probe(NamedTuple):
    """A request that a server can only answer if it works: a GET of `path`, or a POST if there is a `body`."""

    path: str
    body: dict[str, Any] | None = None


class Served(NamedTuple):
    """A model, and how it is served.

    Attributes
    ----------
    folder : of the model, as the rule `fetch_model` makes it.
    mark : what the server tells of itself.
    device, dtype, trust_remote_code : as the config has them, `auto` resolved.
    task : Task
    tensor_parallel, data_parallel : GPUs of a copy of the model, and copies.
    extra : further arguments, which come last.
    """

    folder: Path
    mark: str
    device: str
    dtype: str
    trust_remote_code: bool
    task: Task
    tensor_parallel: int = 1
    data_parallel: int = 1
    extra: Sequence[str] = ()

    @property
    def context_length(self) -> int | None:
        """The longest text that the model reads, in tokens; None if it tells none."""
        return ChatTokenizer(self.folder, self.trust_remote_code).context_length


@dataclass(frozen=True, kw_only=True)
class ServerKind:
    """A kind of server, as described to code that starts or uses one.

    Attributes
    ----------
    name : of the engine, of its section in the config, and for `serving.launch`.
    title : what users call it.
    package : which its interpreter must have.
    arguments : its command line for a model, without address and key.
    environment : variables that it needs, by device, beside those that every server needs.
    probe : tells whether it works, by task.
    mark_path : where it tells its mark.
    mark_in : reads the mark from what it says there; raises KeyError, IndexError or TypeError if there is none.
    """

    name: str
    title: str
    package: str
    arguments: Callable[[Served], list[str]]
    environment: Callable[[str], dict[str, str]]
    probe: Callable[[Task], Probe]
    mark_path: str
    mark_in: Callable[[Any], str]


def _sglang_arguments(served: Served) -> list[str]:
    arguments = ["--model-path", str(served.folder), "--weight-version", served.mark, "--dtype", served.dtype]
    arguments += ["--tp-size", str(served.tensor_parallel), "--dp-size", str(served.data_parallel)]
    if served.task == "embedding":
        arguments.append("--is-embedding")
    else:
        # A request's tokens so far must be known when its next one is drawn.
        arguments += ["--enable-custom-logit-processor", "--disable-overlap-schedule"]
        # The step that ends an answer may be one beyond the longest one.
        if context := served.context_length:
            arguments += ["--context-length", str(context + 2)]
    if served.trust_remote_code:
        arguments.append("--trust-remote-code")
    if served.device == "cpu":
        arguments += ["--device", "cpu", "--attention-backend", "torch_native", "--sampling-backend", "pytorch"]
        # By default, an idle server keeps a core busy and uses most of the memory for its cache.
        arguments += ["--sleep-on-idle", "--max-total-tokens", "65536"]
    return [*arguments, *served.extra]


def _sglang_environment(device: str) -> dict[str, str]:
    # For the context length above: the model's output at a position beyond its last is never read.
    environment = {"SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "1"}
    if device == "cpu":
        environment |= {"SGLANG_USE_CPU_ENGINE": "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    return environment


SGLANG = ServerKind(
    name="sglang",
    title="SGLang",
    package="sglang",
    arguments=_sglang_arguments,
    environment=_sglang_environment,
    probe=lambda task: Probe("/health_generate"),
    mark_path="/model_info",
    mark_in=lambda said: said["weight_version"],
)


def _vllm_arguments(served: Served) -> list[str]:
    arguments = ["--model", str(served.folder), "--served-model-name", served.mark, "--dtype", served.dtype]
    arguments += ["--tensor-parallel-size", str(served.tensor_parallel)]
    arguments += ["--data-parallel-size", str(served.data_parallel)]
    # By default a model's own sampling settings, such as a repetition penalty, change its logits.
    arguments += ["--generation-config", "vllm"]
    if served.task == "embedding":
        arguments += ["--runner", "pooling"]
    else:
        arguments += ["--logits-processors", VLLM_PROCESSOR, "--logprobs-mode", "raw_logprobs"]
        # The step that ends an answer may be one beyond the longest one.
        if context := served.context_length:
            arguments += ["--max-model-len", str(context + 2)]
    if served.trust_remote_code:
        arguments.append("--trust-remote-code")
    if served.device == "cpu":
        arguments.append("--enforce-eager")
    return [*arguments, *served.extra]


def _vllm_environment(device: str) -> dict[str, str]:
    # For the context length above: the model's output at a position beyond its last is never read.
    environment = {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1", "VLLM_NO_USAGE_STATS": "1"}
    defaults = {}
    if device == "cpu":
        # By default, its cache takes half of the memory, not so many GiB, and its threads are pinned to cores.
        defaults = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
        # Compiling how the rank of a token is counted takes longer than a job saves by it.
        defaults["TORCH_COMPILE_DISABLE"] = "1"
    return environment | {name: os.environ.get(name, value) for name, value in defaults.items()}


def _vllm_probe(task: Task) -> Probe:
    # Its own check of its health tells that its processes live, not that they work.
    if task == "embedding":
        return Probe("/classify", {"input": [0]})
    return Probe("/v1/completions", {"prompt": [0], "max_tokens": 1, "temperature": 0})


VLLM = ServerKind(
    name="vllm",
    title="vLLM",
    package="vllm",
    arguments=_vllm_arguments,
    environment=_vllm_environment,
    probe=_vllm_probe,
    mark_path="/v1/models",
    mark_in=lambda said: said["data"][0]["id"],
)

SERVERS = {kind.name: kind for kind in (SGLANG, VLLM)}
