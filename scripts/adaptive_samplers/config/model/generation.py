"""How answers are generated."""

from typing import Annotated

from pydantic import Field

from adaptive_samplers.config.fields import Section, key, named, section
from adaptive_samplers.config.model.scoring import Weights
from adaptive_samplers.config.model.types import SECONDS, EngineName, Text, Tokens

Address = Annotated[
    str,
    Field(pattern="https?://[^/]+/?", json_schema_extra={"x-allowed": "an address such as http://node17:30000"}),
]


class ServerSettings(Section):
    """Servers of an engine: what means the same for all of them."""

    python: str | None = key(
        "Python interpreter that has the engine's package, for servers that jobs start; `null` takes the job's own.",
        default=None,
        min_length=1,
    )
    tensor_parallel: int = key("GPUs over which the server splits the model.", default=1, ge=1, le=1024)
    data_parallel: int = key(
        "Copies of the model in the server, each on `tensor_parallel` GPUs of its own.", default=1, ge=1, le=1024
    )
    endpoints: list[Address] = key(
        "Servers that are already running, such as `http://node17:30000`; jobs then start none. Their key is "
        "read from the environment variable ADAPTIVE_SAMPLERS_ENDPOINT_KEY.",
        default=[],
        unique=True,
    )
    concurrency: int = key("Requests in flight at once, over all endpoints.", default=128, ge=1, le=100000)
    request_timeout: float = key("Seconds that a request may take before it is sent again.", default=1800.0, **SECONDS)
    start_timeout: float = key("Seconds that a server may take to load the model.", default=1800.0, **SECONDS)
    arguments: list[Text] = key(
        "Further arguments of the server, such as SGLang's `--mem-fraction-static=0.85` or vLLM's "
        "`--gpu-memory-utilization=0.85`; model, address, key and parallel sizes follow from other keys.",
        default=[],
    )


class SGLang(ServerSettings):
    """SGLang servers, for the engine `sglang` (docs/serving.md). Answers do not depend on any of it."""


class VLLM(ServerSettings):
    """vLLM servers, for the engine `vllm` (docs/serving.md). Answers do not depend on any of it."""


class TokensByKind(Section):
    """Longest answers by kind of prompt, in tokens."""

    model_config = named("prompt kind")

    creative: Tokens = key("Longest answer to a creative prompt, in tokens.")
    verifiable: Tokens = key("Longest answer to a verifiable prompt, in tokens.")
    factual: Tokens = key("Longest answer to a factual prompt, in tokens.")
    chat: Tokens = key("Longest answer to a chat prompt, in tokens.")


class AdaptiveBudgets(Section):
    """Adaptive budgets: after the first seeds, further answers go where they tell most (docs/budgets.md)."""

    enabled: bool = key(
        "Whether the first answers decide which seeds and heuristics a training prompt gets after them.", default=False
    )
    first_seeds: int = key(
        "Number of `seeds`, from the first on, that every training prompt gets under every heuristic. Their "
        "answers decide about the others.",
        default=2,
        ge=1,
        affects=("allocate_budget", "summarize_selection"),
    )
    budget: float = key(
        "Maximum number of answers to training prompts, as a share of those under every heuristic and seed.",
        default=0.75,
        gt=0,
        le=1,
    )
    top: int = key(
        "Number of best answers that matter; the largest of `scoring.top_k` is a good choice.", default=2, ge=1
    )
    confidence: float = key(
        "Confidence, above 0 and below 1, that the best heuristic is not eliminated; higher values eliminate fewer.",
        default=0.95,
        gt=0,
        lt=1,
    )
    keep: int = key("Number of heuristics that always remain, those closest to the best.", default=4, ge=1)
    keep_share: float = key(
        "A heuristic stays if, for any kind of prompt, its answers are among the `top` best for at least this "
        "share of prompts and seeds.",
        default=0.15,
        gt=0,
        le=1,
    )
    weights: list[Weights] = key(
        "Weightings of the normalized labels, as in `scoring.weights`; a heuristic good under any of them stays.",
        default=[
            {"diversity": 0.0, "quality": 1.0, "correctness": 0.0},
            {"diversity": 0.5, "quality": 0.5, "correctness": 0.0},
        ],
        min_length=1,
    )


class Generation(Section):
    """How the base language model writes the answers."""

    engine: EngineName = key(
        "The inference engine: `transformers` in the job's own process, on CPU or GPU, or a server, `sglang` or `vllm` "
        "(docs/serving.md).",
        default="transformers",
        affects=("generate_candidates", "sample_with_sampler", "sample_policy", "train_on_policy"),
    )
    max_new_tokens: Tokens | TokensByKind = key(
        "Longest answer in tokens: one number, or a map with a number for each kind of prompt.",
        default=512,
        affects=("generate_candidates", "sample_with_sampler", "sample_policy", "train_on_policy"),
    )
    stop: list[Text] = key(
        "Strings that end an answer, in addition to the model's own end-of-turn tokens.",
        default=[],
        unique=True,
        affects=(
            "generate_candidates",
            "sample_with_sampler",
            "sample_policy",
            "record_draws",
            "train_on_policy",
            "explain_prompt",
        ),
    )
    shards: int = key(
        "Jobs per seed. Choose it so that a job lasts about an hour; answers do not depend on it.",
        default=1,
        ge=1,
        le=10000,
        affects=("generate_candidates",),
    )
    record_draws: bool = key(
        "Whether the engine `transformers` records distributions and draws of training and validation answers as it "
        "generates them. If not, and always behind servers, which give no whole distributions, answers are read once "
        "more when they are trained on or an estimate wants them.",
        default=False,
        affects=(),
    )
    batch_size: int = key("Answers in flight at once; answers do not depend on it.", default=64, ge=1, le=100000)
    sglang: SGLang = section(SGLang)
    vllm: VLLM = section(VLLM)
    tolerance: float = key(
        "Share of incomplete prompts, 0 to 1, that may be dropped; they are always reported.",
        default=0.0,
        ge=0,
        le=1,
        affects=("verify_candidates", "train_on_policy"),
    )
    adaptive: AdaptiveBudgets = section(AdaptiveBudgets, affects=("allocate_budget",))
