"""Which engines there are, and what the rest of the project needs to know about them. Loads none of their packages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from adaptive_samplers.config.fields import Section
from adaptive_samplers.references import Reference


class TokenRate(NamedTuple):
    """Tokens per second of an engine on one GPU with a model of 3 billion parameters, as `plan` assumes."""

    assumption: str
    value: float
    meaning: str


class ForJudges(NamedTuple):
    """How an engine runs the models of judges.

    `opened_by` is a function `(settings, folder, log, reads, token_ids)` that returns a context manager with a
    `Scorer`, for the judge with these settings and its model in `folder`; `labels.judges.model_judges` says what it
    `reads` from the model. `environment` is that of such jobs, a file in `envs`.
    """

    opened_by: Reference
    environment: str


@dataclass(frozen=True, kw_only=True)
class EngineKind:
    """An engine, as described to code that does not run it.

    Attributes
    ----------
    name : what configs and tables call it. A server has its settings under this key, next to `engine`.
    opened_by : function `(config, model_folder, log) -> Engine`
    packages : whose versions document how its answers were made.
    environment : of jobs that generate, a file in `envs`.
    for_judges : None where it runs no judges.
    is_server : whether jobs start a server, or use externally run `endpoints`.
    records_draws : whether it keeps what a request's `recording` asks for.
    gpus : GPUs of a job, as a function of its settings (none if it has none).
    token_rate : what a plan assumes.
    """

    name: str
    opened_by: Reference
    packages: tuple[str, ...]
    environment: str
    for_judges: ForJudges | None
    is_server: bool
    records_draws: bool
    gpus: Callable[[Any], int]
    token_rate: TokenRate

    def gpus_of(self, user: Section, device: str) -> int:
        """GPUs of a job that runs the model of `user`, the config's `generation` or a judge, on a device."""
        return 0 if device == "cpu" else self.gpus(getattr(user, self.name, None))

    def endpoints_of(self, user: Section) -> Sequence[str]:
        """Externally run servers for `user`."""
        return getattr(user, self.name).endpoints if self.is_server else ()


def _gpus_of_server(settings: Any) -> int:
    return 0 if settings.endpoints else settings.tensor_parallel * settings.data_parallel


ENGINES = {
    kind.name: kind
    for kind in (
        EngineKind(
            name="transformers",
            opened_by=Reference("engines.transformers_engine:open_transformers"),
            packages=("torch", "transformers"),
            environment="language_model",
            for_judges=ForJudges(Reference("labels.judges.in_process:open_in_process"), environment="labels"),
            is_server=False,
            records_draws=True,
            gpus=lambda settings: 1,
            token_rate=TokenRate(
                "in_process_tokens_per_second", 1000, "generated tokens a second, under the engine `transformers`"
            ),
        ),
        EngineKind(
            name="sglang",
            opened_by=Reference("engines.sglang_engine:open_sglang"),
            packages=("torch", "transformers", "sglang"),
            environment="sglang",
            for_judges=ForJudges(Reference("labels.judges.served:open_served"), environment="sglang"),
            is_server=True,
            records_draws=False,
            gpus=_gpus_of_server,
            token_rate=TokenRate(
                "tokens_per_second", 6000, "generated tokens a second, under SGLang with our processor"
            ),
        ),
        EngineKind(
            name="vllm",
            opened_by=Reference("engines.vllm_engine:open_vllm"),
            packages=("torch", "transformers", "vllm"),
            environment="vllm",
            for_judges=ForJudges(Reference("labels.judges.served_vllm:open_served_vllm"), environment="vllm"),
            is_server=True,
            records_draws=False,
            gpus=_gpus_of_server,
            token_rate=TokenRate(
                "vllm_tokens_per_second", 6000, "generated tokens a second, under vLLM, taken to be SGLang's"
            ),
        ),
    )
}


def records_draws(generation: Section) -> bool:
    """Whether draws are recorded as answers are generated, for a config's `generation`."""
    return generation.record_draws and ENGINES[generation.engine].records_draws


ENGINE_PACKAGES = tuple(dict.fromkeys(package for kind in ENGINES.values() for package in kind.packages))
"""Whose versions are recorded of answers, whichever engine gave them."""
