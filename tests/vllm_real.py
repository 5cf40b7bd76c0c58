"""The processor in vLLM's own classes, without a model: run by vLLM's interpreter, it prints what it drew and refused.

PYTHONPATH=scripts:tests ADAPTIVE_SAMPLERS_FOLDERS=/samplers python tests/vllm_real.py /samplers/one
"""

import json
import random
import sys
from types import SimpleNamespace

import torch
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.v1.sample.logits_processor import (
    LogitsProcessors,
    _load_custom_logitsprocs,
    validate_logits_processors_parameters,
)
from vllm.v1.worker.gpu import buffer_utils
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcRequestState
from vllm.v1.worker.gpu.sample.logits_processor.loader import (
    _load_v2_logitsprocs,
    build_custom_logits_processors_params_validator,
)
from vllm.v1.worker.gpu.sample.sampler import Sampler
from vllm.v1.worker.gpu.states import RequestState
from vllm.v1.worker.gpu_input_batch import CachedRequestState, InputBatch

from adaptive_samplers.serving import vllm_processor
from adaptive_samplers.serving.request import FIELD
from vllm_rows import ENDS, LONGEST, VOCABULARY, Asked, decode, play_new_runner, play_old_runner

NAME = f"{vllm_processor.__name__}:PipelineProcessor"


def sampling_params(**changes) -> SamplingParams:
    return SamplingParams(stop_token_ids=ENDS, temperature=0, **changes)


class RealBatch:
    """vLLM's own InputBatch with the processor, as `vllm_rows.Batch`."""

    def __init__(self, processor) -> None:
        self.asked: dict[str, Asked] = {}
        self.names: dict[Asked, str] = {}
        self.batch = InputBatch(
            max_num_reqs=8,
            max_model_len=64,
            max_num_batched_tokens=64,
            device=torch.device("cpu"),
            vocab_size=VOCABULARY,
            block_sizes=[16],
            max_num_blocks_per_req=[8],
            logitsprocs=LogitsProcessors([processor]),
        )

    @property
    def rows(self) -> list[Asked | None]:
        return [None if name is None else self.asked[name] for name in self.batch._req_ids]

    def add(self, one: Asked) -> None:
        name = self.names.setdefault(one, str(len(self.names)))
        self.asked[name] = one
        params = sampling_params(extra_args=one.extra_args, max_tokens=LONGEST)
        self.batch.add_request(CachedRequestState(name, one.prompt, [], params, None, ([0],), 0, one.output))

    def remove(self, one: Asked) -> None:
        self.batch.remove_request(self.names[one])

    def condense(self) -> None:
        self.batch.condense()

    def swap(self, one: int, other: int) -> None:
        self.batch.swap_states(one, other)

    def tell(self) -> None:
        self.batch.refresh_metadata()


class RealSlots:
    """vLLM's own RequestState and Sampler with the processor, as `vllm_rows.SlotsOfRequests`."""

    def __init__(self, kind: type) -> None:
        count, device = 5, torch.device("cpu")
        self.states = RequestState(count, 64, 64, 4, VOCABULARY, device)
        config = SimpleNamespace(reasoning_config=None)
        processor = kind(config, LogitsProcRequestState.from_request_state(self.states))
        self.sampler = Sampler(
            config,
            count,
            VOCABULARY,
            device,
            self.states,
            num_speculative_tokens=4,
            custom_logits_processors=[processor],
        )
        self.serial = 0

    @property
    def free(self) -> list[int]:
        return self.states.free_indices

    def remove(self, slot: int, one: Asked) -> None:
        self.states.remove_request(self.states.index_to_req_id[slot])

    def add(self, one: Asked) -> int:
        self.serial += 1
        name, token_ids = str(self.serial), [*one.prompt, *one.output]
        self.states.add_request(name, len(one.prompt), token_ids, 0, LONGEST)
        slot = self.states.req_id_to_index[name]
        self.sampler.add_request(slot, sampling_params(extra_args=one.extra_args, max_tokens=LONGEST))
        assert self.sampler.needs_logits_processing[slot] == (one.own is not None)
        return slot

    def flush(self) -> None:
        self.states.apply_staged_writes()
        self.sampler.apply_staged_writes()

    def apply(self, logits: torch.Tensor, **layout) -> torch.Tensor:
        return self.sampler.apply_sampling_params(logits, **layout)


def write_without_a_gpu(self) -> None:
    """What StagedWriteTensor.apply_write does by a kernel for GPUs."""
    first = 0
    staged = self._staged_write_indices, self._staged_write_starts, self._staged_write_cu_lens
    for row, start, last in zip(*staged, strict=True):
        values = torch.tensor(self._staged_write_contents[first:last], dtype=self.dtype)
        self.gpu.view(self.num_rows, -1)[row, start : start + last - first] = values
        first = last
    for one in (*staged, self._staged_write_contents):
        one.clear()


def refusal(validate) -> str:
    """What a validator says of a heuristic that there is not; it lets others pass."""
    validate(SamplingParams())
    validate(SamplingParams(extra_args={FIELD: json.dumps({"processors": [{"top_p": 0.9}]})}))
    try:
        validate(SamplingParams(extra_args={FIELD: json.dumps({"processors": [{"topp": 0.9}]})}))
    except VLLMValidationError as error:
        return str(error)
    raise AssertionError("it was not refused")


def main(sampler: str, seeds: int = 12) -> None:
    found = {"old": 0, "new": 0, "drafts": 0}
    # By its name, and by its entry point where there is one.
    (kind,) = {*_load_custom_logitsprocs([NAME])}
    assert {*_load_v2_logitsprocs([NAME])} == {kind}
    buffer_utils.is_uva_available = lambda: False
    buffer_utils.StagedWriteTensor.apply_write = write_without_a_gpu
    vllm_processor._decoder = lambda config: decode  # there is no model, and so no tokenizer
    for seed in range(seeds):
        processor = kind(None, torch.device("cpu"), False)
        assert processor.is_argmax_invariant() is False
        found["old"] += play_old_runner(random.Random(seed), 25, sampler, processor, RealBatch(processor))
        for name, drafts in (("new", 0), ("drafts", 4)):
            found[name] += play_new_runner(random.Random(seed), 25, sampler, RealSlots(kind), drafts)
    found["refused"] = [
        refusal(lambda params: validate_logits_processors_parameters([NAME], params)),
        refusal(build_custom_logits_processors_params_validator([NAME])),
    ]
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
