"""A judge's model in this process, on CPU or GPU.

Sequences with a common prefix are read together, and the prefix is read once. The rest is padded on the right: in a
causal model nothing sees the padding, so every token keeps its own position and no mask is needed.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, DynamicCache

from adaptive_samplers.config.model.judges import ModelJudgeSettings
from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.judges.calls import Continuation, Result, Scorer
from adaptive_samplers.models.device import choose_device
from adaptive_samplers.models.fetch import check_model

# A shorter common prefix is read with each sequence: a separate pass would cost more.
SHORTEST_PREFIX = 16


class _InProcessScorer:
    """Reads batches of sequences with a Hugging Face model; subclasses define what is read from it."""

    auto_class: Any

    def __init__(self, folder: Path | str, settings: ModelJudgeSettings, token_ids: Sequence[int] = ()) -> None:
        check_model(folder)
        self.token_ids = list(token_ids)  # whose next-token probabilities are read
        self.batch_size = settings.batch_size
        self.device = torch.device(choose_device(settings.device))
        try:
            self.model, loading = self.auto_class.from_pretrained(
                folder,
                dtype=getattr(torch, settings.dtype),
                local_files_only=True,
                trust_remote_code=settings.trust_remote_code,
                output_loading_info=True,
            )
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: the judge's model could not be loaded from it ({error})") from error
        if loading["missing_keys"]:
            # They would be randomly initialized.
            missing = sorted(loading["missing_keys"])[0]
            raise UserError(
                f"{folder}: the model lacks the weights '{missing}', so it is no {settings.kind} judge; name "
                "another model in labels.quality.judge"
            )
        self.model.to(self.device).eval()

    @torch.inference_mode()
    def score(self, sequences: Sequence[Any]) -> Iterator[tuple[int, Result]]:
        """Yield the index of each sequence with its result, batch by batch."""
        # In this order, neighbors share prefixes.
        order = sorted(range(len(sequences)), key=lambda place: sequences[place])
        for start in range(0, len(order), self.batch_size):
            places = order[start : start + self.batch_size]
            try:
                values = self._read([sequences[place] for place in places])
            except torch.OutOfMemoryError as error:
                raise UserError(
                    f"the judge ran out of memory with {len(places)} sequences at once; lower "
                    f"labels.quality.judge.batch_size ({error})"
                ) from error
            for place, row in zip(places, values.double().tolist(), strict=True):
                yield place, Result(tuple(row))

    def _read(self, batch: Sequence[Sequence[int]]) -> Tensor:
        """The model's output at the end of each sequence `[B, values]`."""
        inputs, lengths, _ = self._prefilled(batch, shared_prefix(batch))
        return self._read_off(lengths[:, None] - 1, inputs)

    def _prefilled(self, batch: Sequence[Sequence[int]], shared: int) -> tuple[dict[str, Any], Tensor, int]:
        """The model's inputs after it has read the first `shared` tokens, common to all, and their layout.

        Returns
        -------
        The inputs; how many tokens of each sequence are among them `[B]`; and how many were read before, `shared` or 0.
        """
        cache = None
        if len(batch) > 1 and shared >= SHORTEST_PREFIX:
            cache = DynamicCache(config=self.model.config)
            prefix = torch.tensor([batch[0][:shared]], device=self.device)
            self.model.base_model(input_ids=prefix, past_key_values=cache, use_cache=True)
            cache.batch_repeat_interleave(len(batch))
        else:
            shared = 0
        rest = [torch.tensor(sequence[shared:]) for sequence in batch]
        token_ids = torch.nn.utils.rnn.pad_sequence(rest, batch_first=True).to(self.device)
        lengths = torch.tensor([len(tokens) for tokens in rest], device=self.device)
        return {"input_ids": token_ids, "past_key_values": cache, "use_cache": cache is not None}, lengths, shared

    def _read_off(self, last: Tensor, inputs: dict[str, Any]) -> Tensor:
        """The values `[B, values]` at the positions `last` `[B, 1]`."""
        raise NotImplementedError


class RewardScorer(_InProcessScorer):
    """A reward model: a decoder with a head `score` of one label, read at the last token."""

    auto_class = AutoModelForSequenceClassification

    def __init__(self, folder: Path | str, settings: ModelJudgeSettings, token_ids: Sequence[int] = ()) -> None:
        super().__init__(folder, settings, token_ids)
        if self.model.num_labels != 1 or not hasattr(self.model, "score"):
            raise UserError(
                f"{folder}: a reward model with one label, read at the last token, is needed; this one is "
                f"{type(self.model).__name__} with {self.model.num_labels} labels"
            )

    def _read_off(self, last: Tensor, inputs: dict[str, Any]) -> Tensor:
        # Not the model's own pooling, which mistakes a last token that equals its padding token for padding.
        hidden = self.model.base_model(**inputs).last_hidden_state
        return self.model.score(torch.take_along_dim(hidden, last[..., None], dim=1).squeeze(1))


class LabelScorer(_InProcessScorer):
    """A causal language model: next-token log-probabilities, in nats, of some tokens."""

    auto_class = AutoModelForCausalLM

    def _read_off(self, last: Tensor, inputs: dict[str, Any]) -> Tensor:
        logits = self.model(**inputs, logits_to_keep=last).logits[:, -1]
        return torch.log_softmax(logits.float(), dim=-1)[:, self.token_ids]


class LikelihoodScorer(_InProcessScorer):
    """A causal language model: log-probabilities, in nats, mean of each continuation's tokens, and of ending after it.

    If a continuation is empty, that of the end is used for the mean too.
    """

    auto_class = AutoModelForCausalLM

    def _read(self, batch: Sequence[Continuation]) -> Tensor:
        """Mean of each continuation's tokens, and of the end `[B, 2]`."""
        sequences = [continuation.token_ids for continuation in batch]
        # The token before a continuation predicts its first one, so it is read with it.
        first = min(continuation.start for continuation in batch) - 1
        inputs, lengths, before = self._prefilled(sequences, min(shared_prefix(sequences), first))
        # Logits of a whole vocabulary are large: only those from there on are computed.
        kept = inputs["input_ids"].shape[1] - (first - before)
        logits = self.model(**inputs, logits_to_keep=kept).logits
        rows = []
        for row, continuation, length in zip(logits, batch, lengths.tolist(), strict=True):
            place = continuation.start - 1 - first
            logprobs = torch.log_softmax(row[place : length - (first - before)].float(), dim=-1)
            tokens = torch.tensor(continuation.token_ids[continuation.start :], device=self.device, dtype=torch.long)
            end = logprobs[-1, self.token_ids].double().logsumexp(-1)
            scored = logprobs[:-1].gather(1, tokens[:, None]).double()
            rows.append(torch.stack([scored.mean() if len(tokens) else end, end]))
        return torch.stack(rows)


SCORERS = {"rewards": RewardScorer, "labels": LabelScorer, "likelihoods": LikelihoodScorer}


def open_in_process(
    settings: ModelJudgeSettings, folder: Path, log: Path, reads: str, token_ids: Sequence[int]
) -> AbstractContextManager[Scorer]:
    """The scorer of what a judge reads from its model; nothing writes a log."""
    return nullcontext(SCORERS[reads](folder, settings, token_ids))


def shared_prefix(batch: Sequence[Sequence[int]]) -> int:
    """The length of the common prefix of a sorted batch of sequences; each keeps at least one token of its own."""
    first, last = batch[0], batch[-1]
    limit = min(map(len, batch)) - 1
    return next((place for place in range(limit) if first[place] != last[place]), limit)
