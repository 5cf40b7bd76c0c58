"""The judge that the config asks for."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from adaptive_samplers.config.model import Config
from adaptive_samplers.config.model.judges import EndpointJudge, ModelJudge
from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_id
from adaptive_samplers.labels.embeddings import read_embeddings
from adaptive_samplers.labels.judges.base import Judge
from adaptive_samplers.labels.judges.calls import Calls, Scorer
from adaptive_samplers.labels.judges.encoding import Encoder
from adaptive_samplers.labels.judges.endpoint import TextEncoder, endpoint_labels
from adaptive_samplers.labels.judges.feature_reward import FeatureReward, feature_reward_judge
from adaptive_samplers.labels.judges.likelihood import likelihood_judge
from adaptive_samplers.labels.judges.pairwise import PairwiseJudge
from adaptive_samplers.labels.judges.scalar import scalar_judge
from adaptive_samplers.labels.quality import under_one_seed
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.models.fetch import model_hash
from adaptive_samplers.partfile import PartFile
from adaptive_samplers.serving.api import ApiPool
from adaptive_samplers.stage import say
from adaptive_samplers.tables import KEY
from adaptive_samplers.versions import STAGE_VERSIONS

# What the answers of a judge's model depend on, beside its files.
CALL_SETTINGS = ("kind", "engine", "dtype", "labels")
# The same of a model behind an endpoint, which has no files here.
ENDPOINT_CALL_SETTINGS = {"kind", "model", "labels", "max_tokens", "top_logprobs", "request"}
# Tokens of a context that SGLang keeps for itself; they stay free in process too, so that the same calls fail.
RESERVED_TOKENS = 8


def candidate_columns(kind: str) -> list[str]:
    """The columns of the candidates that a judge of this kind reads."""
    generated = ["token_ids", "token_logprobs", "end_logprobs"] if kind == "feature_reward" else []
    return [*KEY, "text", "finish_reason", *generated]


@contextmanager
def open_judge(
    config: Config,
    prompts: pd.DataFrame,
    candidates: pd.DataFrame,
    inputs: Mapping[str, str],
    output: Path,
    log: Path,
) -> Iterator[Judge]:
    """The judge `labels.quality.judge`, with the answers it is to judge.

    Calls of a judge's model are kept in a part file beside `output` until the block ends without an error, so that
    `output` should be written in it. The output of a server, where one is started, goes into a file beside `log`.

    Parameters
    ----------
    config : a config, or what the stage may read of it.
    prompts, candidates : the tables; of the candidates, `candidate_columns`.
    inputs : paths by name: of the embedded judge `embeddings`, `judge` and `model` (the base model, for its
        tokenizer), of models in folders `judge_model`.
    """
    settings = config.labels.quality.judge
    if config.labels.quality.tournament.group == "prompt":
        candidates = under_one_seed(candidates)
    if settings.kind == "feature_reward":
        yield feature_reward_judge(
            FeatureReward.load(inputs["judge"]),
            prompts,
            candidates,
            read_embeddings(inputs["embeddings"]),
            ChatTokenizer(inputs["model"], config.model.trust_remote_code).decode,
        )
        return
    if settings.kind == "endpoint":
        source: list[Any] = [settings.model_dump(include=ENDPOINT_CALL_SETTINGS)]
        encoder, max_length, open_scorer = TextEncoder(), None, partial(_open_endpoint, settings)
    else:
        folder = Path(inputs["judge_model"])
        tokenizer = ChatTokenizer(folder, settings.trust_remote_code)
        encoder = Encoder(tokenizer, settings)
        limits = [settings.max_length, tokenizer.context_length and tokenizer.context_length - RESERVED_TOKENS]
        max_length = min((limit for limit in limits if limit is not None), default=None)
        source = [model_hash(folder), {key: getattr(settings, key, None) for key in CALL_SETTINGS}]
        token_ids = _read_token_ids(settings, tokenizer, encoder)
        open_scorer = partial(_open_scorer, settings, folder, token_ids, log.with_suffix(".server.log"))
    fingerprint = content_id([STAGE_VERSIONS["label_quality"], *source])
    with PartFile(output, fingerprint) as part, Calls(open_scorer, part, max_length) as calls:
        if found := calls.measured()["calls_found"]:
            say(f"{found} calls of the judge were answered before; going on with the rest")
        if settings.kind in ("scalar", "likelihood"):
            rate = scalar_judge if settings.kind == "scalar" else likelihood_judge
            yield rate(settings, prompts, candidates, calls, encoder)
        else:
            yield PairwiseJudge(settings, prompts, candidates, calls, encoder)
        part.remove()


def _read_token_ids(settings: ModelJudge, tokenizer: ChatTokenizer, encoder: Encoder) -> list[int]:
    """The tokens whose probability as the next one the judge reads, if any."""
    if settings.kind == "pairwise":
        return encoder.label_ids(settings.labels)
    if settings.kind == "likelihood":
        if not tokenizer.end_token_ids:
            raise UserError(f"the judge's model '{settings['name']}' names no token that ends an answer")
        return tokenizer.end_token_ids
    return []


@contextmanager
def _open_scorer(settings: ModelJudge, folder: Path, token_ids: Sequence[int], log: Path) -> Iterator[Scorer]:
    """What reads questions for the judge; only what the chosen engine needs is loaded."""
    kind = settings.kind
    if settings.engine == "sglang":
        from adaptive_samplers.labels.judges.served import served_labels, served_likelihoods, served_rewards
        from adaptive_samplers.serving.service import serve

        with serve(settings.sglang, settings, folder, log, "embedding" if kind == "scalar" else "generate") as pool:
            if kind == "scalar":
                yield served_rewards(pool)
            else:
                yield (served_labels if kind == "pairwise" else served_likelihoods)(pool, token_ids)
        return
    from adaptive_samplers.labels.judges.in_process import LabelScorer, LikelihoodScorer, RewardScorer

    if kind == "scalar":
        yield RewardScorer(folder, settings)
    else:
        yield (LabelScorer if kind == "pairwise" else LikelihoodScorer)(folder, settings, token_ids)


@contextmanager
def _open_endpoint(settings: EndpointJudge) -> Iterator[Scorer]:
    """What asks a server that somebody else keeps up."""
    yield endpoint_labels(
        ApiPool(
            settings.base_url,
            settings.api_key_variable,
            settings.concurrency,
            settings.request_timeout,
            settings.requests_per_second,
        ),
        settings,
    )
