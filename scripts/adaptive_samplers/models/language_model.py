"""The base language model in process: logits, chat template and the log-probabilities of given answers."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache

from adaptive_samplers.config.model import Config
from adaptive_samplers.errors import UserError
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.models.device import choose_device
from adaptive_samplers.models.fetch import check_model, refuse_pickles


class LanguageModel(ChatTokenizer):
    """A causal language model with its tokenizer.

    Parameters
    ----------
    folder : Path
        A Hugging Face model folder, as the rule `fetch_model` makes it. Nothing is loaded from anywhere else.
    dtype : str
        float32, bfloat16 or float16.
    device : str
        `auto` takes a GPU if there is one.
    trust_remote_code : bool
        Whether Python files of the model folder may run.
    """

    def __init__(
        self,
        folder: Path | str,
        dtype: str = "float32",
        device: str = "auto",
        trust_remote_code: bool = False,
    ) -> None:
        check_model(folder)
        super().__init__(folder, trust_remote_code)
        refuse_pickles(folder)
        self.device = torch.device(choose_device(device))
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
        try:
            self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), **options)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: no causal language model could be loaded from it ({error})") from error
        self.model.to(self.device).eval()

    @classmethod
    def from_config(cls, config: Config, folder: Path) -> Self:
        """The base model of a run's config, fetched into `folder`."""
        model = config.model
        return cls(folder, model.dtype, model.device, model.trust_remote_code)

    def next_logits(self, token_ids: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
        """The logits after the last token, `[B, V]`, extending the cache in place.

        Parameters
        ----------
        token_ids : Tensor [B, L]
            New tokens, left-padded.
        mask : Tensor [B, T + L]
            1 for real tokens, of the cache and the new ones; 0 for padding.
        """
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -token_ids.shape[1] :]
        output = self.model(
            input_ids=token_ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            logits_to_keep=1,
        )
        return output.logits[:, -1]

    @torch.inference_mode()
    def answer_logits(
        self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], batch_size: int, done: Collection[int] = ()
    ) -> Iterator[tuple[int, Tensor]]:
        """Read given answers: for each (prompt ids, answer ids) yield its position and logits `[len(answer) + 1, V]`.

        Row i of the logits is the distribution before answer token i; the last row is the one after the answer.
        Answers of similar length are read together, so the order differs from the input's. Nothing is yielded for the
        positions in `done`; they are left out, but for those that are read together with others: the last digits of
        logits depend on what is in a batch, and so they depend on `pairs` alone.
        """
        order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]), reverse=True)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            if all(i in done for i in rows):
                continue
            length = max(len(pairs[i][0]) + len(pairs[i][1]) for i in rows)
            longest = max(len(pairs[i][1]) for i in rows) + 1
            token_ids = torch.zeros(len(rows), length, dtype=torch.long)
            mask = torch.zeros(len(rows), length, dtype=torch.long)
            for row, i in enumerate(rows):
                tokens = torch.tensor([*pairs[i][0], *pairs[i][1]])
                token_ids[row, length - len(tokens) :] = tokens
                mask[row, length - len(tokens) :] = 1
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            logits = self.model(
                input_ids=token_ids.to(self.device),
                attention_mask=mask.to(self.device),
                position_ids=positions.to(self.device),
                logits_to_keep=longest,
                use_cache=False,
            ).logits
            for row, i in enumerate(rows):
                if i not in done:
                    yield i, logits[row, longest - len(pairs[i][1]) - 1 :].float()

    def score_answers(
        self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], batch_size: int
    ) -> list[tuple[list[float], list[float]]]:
        """For each (prompt ids, answer ids): log-probabilities, in nats, of the tokens, and of ending
        before the first token and after each."""
        scored: list[tuple[list[float], list[float]]] = [([], [])] * len(pairs)
        for i, logits in self.answer_logits(pairs, batch_size):
            logprobs = torch.log_softmax(logits, dim=-1)
            answer = torch.tensor(pairs[i][1], device=logprobs.device, dtype=torch.long)
            tokens = logprobs[:-1].gather(1, answer[:, None]).squeeze(1)
            ends = torch.logsumexp(logprobs[:, self.end_token_ids], dim=-1)
            scored[i] = (tokens.tolist(), ends.tolist())
        return scored
