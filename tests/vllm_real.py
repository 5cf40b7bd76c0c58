"""The processor in vLLM's own classes, without a model: run by vLLM's interpreter, it prints what it drew and refused.

PYTHONPATH=scripts:tests ADAPTIVE_SAMPLERS_FOLDERS=/samplers python tests/vllm_real.py /samplers/one
"""

import json
import random
import sys

import torch
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.v1.sample.logits_processor import (
    LogitsProcessors,
    _load_custom_logitsprocs,
    validate_logits_processors_parameters,
)
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState
from vllm.v1.worker.gpu.sample.logits_processor.loader import (
    _load_v2_logitsprocs,
    build_custom_logits_processors_params_validator,
)
from vllm.v1.worker.gpu_input_batch import CachedRequestState, InputBatch

from adaptive_samplers.serving import vllm_processor
from adaptive_samplers.serving.vllm_request import FIELD
from vllm_rows import ENDS, LONGEST, VOCABULARY, Asked, Slots, decode, play_new_runner, play_old_runner

NAME = f"{vllm_processor.__name__}:PipelineProcessor"
SLOTS = 5


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


def slots() -> LogitsProcRequestState:
    """vLLM's own, but for the arrays in it, which take memory and kernels for GPUs."""
    arrays = Slots.of(SLOTS)
    return LogitsProcRequestState(
        device=torch.device("cpu"),
        max_num_reqs=SLOTS,
        vocab_size=VOCABULARY,
        all_token_ids=arrays.all_token_ids,
        prompt_len=arrays.prompt_len,
        prefill_len=arrays.prefill_len,
        total_len=None,
    )


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
    vllm_processor._decoder = lambda config: decode  # there is no model, and so no tokenizer
    for seed in range(seeds):
        processor = kind(None, torch.device("cpu"), False)
        assert processor.is_argmax_invariant() is False
        found["old"] += play_old_runner(random.Random(seed), 25, sampler, processor, RealBatch(processor))
        for name, drafts in (("new", 0), ("drafts", 4)):
            found[name] += play_new_runner(
                random.Random(seed),
                25,
                sampler,
                lambda states: kind(None, states),
                slots(),
                LogitsContext,
                sampling_params,
                drafts,
            )
    found["refused"] = [
        refusal(lambda params: validate_logits_processors_parameters([NAME], params)),
        refusal(build_custom_logits_processors_params_validator([NAME])),
    ]
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
