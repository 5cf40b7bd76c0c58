"""What a draw costs on a GPU at least: a calculation, not a measurement, from counted bytes and kernel launches.

    python bench/roofline.py                  batch 64, a vocabulary of 128,256, an H200
    python bench/roofline.py --batch 1

Nothing needs a GPU. The project's kernels run in Triton's interpreter, where each load and store is counted; the bytes
of a kernel are those of the distinct addresses that it reads and writes, as if its cache never lost one. PyTorch's
operations count as a kernel each, with the bytes of their arguments and results. Few rows are run, because an
interpreter is slow, and the bytes multiplied: every row costs the same.

The time of a kernel is at least its bytes over the bandwidth of the memory, and at least what a kernel of a CUDA graph
takes that does nothing. Both numbers are the maker's or commonly measured ones, so `bench/gpu.py` has the last word.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

import numpy as np
import torch
from gpu import VOCABULARY, exponential_race, logits_like_a_language_models
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime import interpreter

from adaptive_samplers.samplers import base, build_sampler
from adaptive_samplers.samplers.passes import triton_network, triton_passes

# Of an H200: 4.8 TB/s. A kernel in a CUDA graph that does nothing takes between 1 and 2 microseconds.
BYTES_A_SECOND = 4.8e12
SECONDS_A_KERNEL = 1.5e-6
TARGET_MICROSECONDS = 150
ROWS = 4


@dataclass
class Counted(TorchDispatchMode):
    """Bytes of each kernel, by name, in the order in which they run."""

    kernels: list[tuple[str, int]] = field(default_factory=list)
    addresses: list[np.ndarray] | None = None  # of the project's kernel that runs now

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        result = function(*arguments, **(options or {}))
        if self.addresses is None and not function.is_view and "empty" not in function.name():
            flat = torch.utils._pytree.tree_leaves((arguments, options, result))
            tensors = {tensor.data_ptr(): tensor.nbytes for tensor in flat if isinstance(tensor, torch.Tensor)}
            self.kernels.append((function.name().removeprefix("aten::"), sum(tensors.values())))
        return result

    @contextmanager
    def of_triton(self) -> Iterator[None]:
        """Count what Triton's interpreter loads and stores."""
        builder, executor = interpreter.InterpreterBuilder, interpreter.GridExecutor
        before = builder.create_masked_load, builder.create_masked_store, builder.create_atomic_rmw, executor.__call__

        def load(self_, pointers, mask, *others):
            self._touch(pointers, mask)
            return before[0](self_, pointers, mask, *others)

        def store(self_, pointers, value, mask, *others):
            self._touch(pointers, mask)
            return before[1](self_, pointers, value, mask, *others)

        def atomic(self_, operation, pointers, value, mask, *others):
            self._touch(pointers, mask)
            return before[2](self_, operation, pointers, value, mask, *others)

        def call(executor_, *arguments, **options):
            self.addresses = []
            before[3](executor_, *arguments, **options)
            touched = np.unique(np.concatenate(self.addresses), axis=0)
            self.kernels.append((executor_.fn.__name__.strip("_"), int(touched[:, 1].sum())))
            self.addresses = None

        names = ("create_masked_load", "create_masked_store", "create_atomic_rmw")
        for name, function in zip(names, (load, store, atomic), strict=True):
            setattr(builder, name, function)
        executor.__call__ = call
        try:
            yield
        finally:
            for name, function in zip(names, before, strict=False):
                setattr(builder, name, function)
            executor.__call__ = before[3]

    def _touch(self, pointers: Any, mask: Any) -> None:
        places = np.unique(np.asarray(pointers.data).astype(np.int64)[np.asarray(mask.data, dtype=bool)])
        size = pointers.get_element_ty().primitive_bitwidth // 8
        self.addresses.append(np.stack([places, np.full_like(places, size)], axis=1))


def count(work: Any, batch: int) -> list[tuple[str, int]]:
    """The kernels that a piece of work launches, with their bytes in a batch; it is run for `ROWS` rows."""
    counted = Counted()
    with torch.no_grad(), counted.of_triton(), counted:
        work()
    return [(name, size * batch // ROWS) for name, size in counted.kernels]


def microseconds(kernels: list[tuple[str, int]]) -> float:
    """What kernels take at least, one after another."""
    return 1e6 * sum(max(size / BYTES_A_SECOND, SECONDS_A_KERNEL) for _, size in kernels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    parser.add_argument(
        "--kernels", action="store_true", help="list the kernels of the draw with the project's network"
    )
    options = parser.parse_args()

    torch.set_num_threads(1)
    # As for a CUDA device, and as inside a CUDA graph, where no row can be refused.
    base.passes_for = lambda device: triton_passes
    triton_passes.check_rows = lambda largest: None
    logits = logits_like_a_language_models(ROWS, options.vocabulary, "cpu")
    plain, in_triton = (build_sampler("SamplingNetwork", {}, seed=0).eval() for _ in range(2))
    plain._evaluate = plain.smooth_and_truncation
    in_triton._evaluate = partial(triton_network.smooth_and_truncation, in_triton)
    plain.sample(logits[:, :1000])  # what is computed once for all calls
    print(f"batch {options.batch}, {options.vocabulary} tokens in bfloat16; at least, by calculation:")
    print(f"{'':<47} {'kernels':>7} {'megabytes':>9} {'microseconds':>12}")
    for name, work in (
        ("read the logits once", lambda: logits.amax(-1)),
        ("softmax and a draw in plain PyTorch", lambda: exponential_race(logits)),
        ("sample, network in plain PyTorch", lambda: plain.sample(logits)),
        ("sample, network in the project's kernels", lambda: in_triton.sample(logits)),
        ("output logits, network in plain PyTorch", lambda: plain.logits(logits)),
        ("output logits, network in the project's kernels", lambda: in_triton.logits(logits)),
    ):
        kernels = count(work, options.batch)
        size = sum(size for _, size in kernels) / 1e6
        print(f"{name:<47} {len(kernels):>7} {size:>9.1f} {microseconds(kernels):>12.0f}", flush=True)
        if options.kernels and name.startswith("sample, network in the project"):
            for kernel, size in kernels:
                print(f"    {kernel:<43} {'':>7} {size / 1e6:>9.2f} {microseconds([(kernel, size)]):>12.1f}")
    print(f"target: {TARGET_MICROSECONDS} microseconds added to a decode step at batch 64 on an H200 (docs/gpu.md)")


if __name__ == "__main__":
    main()
