"""The engine that the config asks for."""

from functools import partial
from pathlib import Path

from adaptive_samplers.config.model import Config
from adaptive_samplers.engines.base import Engine


def build_engine(config: Config, model_folder: Path, log: Path) -> Engine:
    """The engine `generation.engine` with the base model in `model_folder`.

    The output of a server, where the engine starts one, goes into a file beside the rule's `log`.
    """
    model, generation = config.model, config.generation
    # Only what the chosen engine needs is loaded.
    if generation.engine == "sglang":
        from adaptive_samplers.engines.sglang_engine import SGLangEngine
        from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
        from adaptive_samplers.serving.service import serve

        tokenizer = ChatTokenizer(model_folder, model.trust_remote_code)
        service = partial(serve, generation.sglang, model, model_folder, log.with_suffix(".server.log"))
        return SGLangEngine(tokenizer, service)
    from adaptive_samplers.engines.transformers_engine import TransformersEngine
    from adaptive_samplers.models.language_model import LanguageModel

    return TransformersEngine(LanguageModel.from_config(config, model_folder), generation.batch_size)
