"""The base language model in process: logits, chat template and the log-probabilities of given answers."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from adaptive_samplers.config.model import Config
from adaptive_samplers.errors import UserError
from adaptive_samplers.models.answer_batches import Pair, plan_reading
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.models.device import choose_device
from adaptive_samplers.models.fetch import check_model, refuse_pickles


@dataclass(frozen=True)
class _Prompts:
    """Prompts that were read up to their last token.

    Attributes
    ----------
    rows : row of each, by these token ids.
    mask : Tensor [P, L], 0 for padding, which is on the left.
    cache : keys and values of all rows.
    """

    rows: dict[tuple[int, ...], int]
    mask: Tensor
    cache: DynamicCache


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
        self, pairs: Sequence[Pair], batch_size: int, done: Collection[int] = ()
    ) -> Iterator[tuple[int, Tensor]]:
        """Read given answers: for each (prompt ids, answer ids) yield its position and logits `[len(answer) + 1, V]`.

        Row i of the logits is the distribution before answer token i; the last row is the one after the answer.
        `plan_reading` says which answers are read together, so the order differs from the input's. Nothing is yielded
        for the positions in `done`; they are left out, but for those that are read together with others: the last
        digits of logits depend on what is in a batch, and so they depend on `pairs` alone.
        """
        for block in plan_reading(pairs, batch_size, self._may_read_prompts_first):
            batches = [batch for batch in block.batches if not all(i in done for i in batch)]
            if batches and block.prompts_first:
                prompts = self._read_prompts([pairs[i][0] for batch in block.batches for i in batch])
            for batch in batches:
                given = [pairs[i] for i in batch]
                logits, first = self._read_after(prompts, given) if block.prompts_first else self._read_whole(given)
                for row, i in enumerate(batch):
                    if i not in done:
                        yield i, logits[row, first[row] : first[row] + len(pairs[i][1]) + 1].float()

    @cached_property
    def _may_read_prompts_first(self) -> bool:
        """Whether the model goes on from a cache with several tokens as if it had read all at once.

        Models with a recurrent state may not, nor may those whose code comes with them.
        """
        if not type(self.model).__module__.startswith("transformers."):
            return False
        layers = DynamicCache(config=self.model.config).layers
        return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)

    def _read_whole(self, pairs: Sequence[Pair]) -> tuple[Tensor, list[int]]:
        """Read prompts and answers as one: logits `[B, L, V]`, and where an answer's first row is."""
        longest = max(len(answer) for _, answer in pairs) + 1
        token_ids, mask = self.left_padded([[*prompt, *answer] for prompt, answer in pairs])
        logits = self.model(
            input_ids=token_ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            logits_to_keep=longest,
            use_cache=False,
        ).logits
        return logits, [longest - len(answer) - 1 for _, answer in pairs]

    def _read_prompts(self, prompts: Sequence[Sequence[int]]) -> _Prompts:
        """Read prompts up to their last token, those that are the same once."""
        rows = {prompt: row for row, prompt in enumerate(dict.fromkeys(tuple(prompt[:-1]) for prompt in prompts))}
        token_ids, mask = self.left_padded(list(rows))
        cache = DynamicCache()
        self.next_logits(token_ids, mask, cache)
        return _Prompts(rows, mask, cache)

    def _read_after(self, prompts: _Prompts, pairs: Sequence[Pair]) -> tuple[Tensor, list[int]]:
        """As `_read_whole`, but the prompts were read before, and only their last tokens are read with the answers."""
        rows = torch.tensor([prompts.rows[tuple(prompt[:-1])] for prompt, _ in pairs], device=self.device)
        cache = DynamicCache()
        for number, layer in enumerate(prompts.cache.layers):
            cache.update(layer.keys.index_select(0, rows), layer.values.index_select(0, rows), number)
        # Padding on the right is seen by nothing that is used.
        length = max(len(answer) for _, answer in pairs) + 1
        token_ids = torch.zeros(len(pairs), length, dtype=torch.long)
        for row, (prompt, answer) in enumerate(pairs):
            token_ids[row, : len(answer) + 1] = torch.tensor([prompt[-1], *answer])
        mask = torch.nn.functional.pad(prompts.mask[rows], (0, length), value=1)
        logits = self.model(
            input_ids=token_ids.to(self.device),
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1)[:, -length:],
            past_key_values=cache,
        ).logits
        return logits, [0] * len(pairs)

    def left_padded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Token ids `[B, L]` and the mask of those that are no padding, on the model's device."""
        length = max(map(len, rows))
        token_ids = torch.zeros(len(rows), length, dtype=torch.long)
        mask = torch.zeros(len(rows), length, dtype=torch.long)
        for row, tokens in enumerate(rows):
            token_ids[row, length - len(tokens) :] = torch.tensor(tokens)
            mask[row, length - len(tokens) :] = 1
        return token_ids.to(self.device), mask.to(self.device)

    def score_answers(self, pairs: Sequence[Pair], batch_size: int) -> list[tuple[list[float], list[float]]]:
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
