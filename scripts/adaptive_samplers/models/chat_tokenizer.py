"""What a language model's folder gives without its weights: tokens, chat template, end-of-turn tokens, context."""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from adaptive_samplers.errors import ConversationRefused, UserError
from adaptive_samplers.models.fetch import check_model


class ChatTokenizer:
    """The tokenizer of a causal language model, with everything else needed to ask it for an answer.

    Parameters
    ----------
    folder : Path
        A Hugging Face model folder, as the rule `fetch_model` makes it. Nothing is loaded from anywhere else.
    trust_remote_code : bool
        Whether Python files of the model folder may run.

    Attributes
    ----------
    end_token_ids : list of int
        The tokens that end an answer, ascending.
    size : int
        How many token ids there are, added ones included.
    context_length : int or None
        How many tokens a prompt and its answer may have.
    """

    def __init__(self, folder: Path | str, trust_remote_code: bool = False) -> None:
        check_model(folder, weights=False)
        self.folder = folder
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, **options)
            config = AutoConfig.from_pretrained(folder, **options)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: no language model's tokenizer and config are in it ({error})") from error
        try:
            generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
        except OSError:
            generation = GenerationConfig.from_model_config(config)
        declared = generation.eos_token_id
        ids = set(declared if isinstance(declared, list) else [declared]) | {self.tokenizer.eos_token_id}
        self.end_token_ids = sorted(token for token in ids if token is not None)
        self.end_token_set = set(self.end_token_ids)
        self.size = len(self.tokenizer)
        self.context_length = getattr(config.get_text_config(), "max_position_embeddings", None)

    def encode_chat(self, messages: list[dict[str, str]]) -> list[int]:
        """The token ids of a conversation, up to where the assistant's answer begins.

        Raises
        ------
        UserError
            If the model has no chat template.
        ConversationRefused
            If its chat template refuses the conversation, as some do where there is a system message.
        """
        if not self.tokenizer.chat_template:
            raise UserError(
                f"{self.folder}: the model has no chat template, as pretrained ones have none; name one that was tuned "
                "to follow instructions, or put a `chat_template.jinja` into the folder that `model.source` names"
            )
        try:
            return self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except Exception as error:  # a template is code from the model, and may raise anything
            roles = ", ".join(message["role"] for message in messages)
            raise ConversationRefused(
                f"the model's chat template refuses a conversation of the roles {roles} ({error})"
            ) from error

    def encode(self, text: str) -> list[int]:
        """The token ids of a text as part of an answer."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def encode_answer(self, text: str) -> list[int]:
        """The token ids of an answer, up to an end-of-turn token that is spelled out in its text."""
        return list(takewhile(lambda token: token not in self.end_token_set, self.encode(text)))

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of an answer."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=True)

    def refuse(self, prompt_length: int, max_new_tokens: int) -> str | None:
        """Why a request cannot be served, or None."""
        if self.context_length and prompt_length + max_new_tokens > self.context_length:
            return (
                f"a prompt of {prompt_length} tokens and an answer of up to {max_new_tokens} exceed "
                f"the model's context of {self.context_length} tokens"
            )
        return None
