"""What all samplers share: log-softmax, sketch, interpolation, truncation, drawing, saving, loading."""

import inspect
from abc import abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import silu

from adaptive_samplers.errors import UserError
from adaptive_samplers.samplers.passes import Grid, passes_for
from adaptive_samplers.samplers.passes.grid import INTERVALS, between, on_every
from adaptive_samplers.samplers.truncation import truncate
from adaptive_samplers.sketch import mask_and_check

if TYPE_CHECKING:
    from transformers import LogitsProcessor

ARCHITECTURES: dict[str, type["AdaptiveSampler"]] = {}


class SwiGLU(nn.Module):
    """Gated feed-forward layer `down(silu(gate(x)) * up(x))` (Shazeer 2020, GLU Variants Improve Transformer).

    The inner width is two thirds of `hidden_features`, so that the three matrices together have about as many
    parameters as the two of an ordinary layer with `hidden_features`.
    """

    def __init__(self, in_features: int, hidden_features: int, out_features: int) -> None:
        super().__init__()
        inner_features = int(2 * hidden_features / 3)
        self.gate_proj = nn.Linear(in_features, inner_features)
        self.up_proj = nn.Linear(in_features, inner_features)
        self.down_proj = nn.Linear(inner_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))


class AdaptiveSampler(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="adaptive-samplers",
    tags=["sampling", "text-generation"],
):
    """A permutation-equivariant map from next-token logits to the logits to sample from.

    A subclass defines `smooth_and_truncation` alone, a function of support points and their counts. It is
    registered under its class name, which `config.json` carries as `architecture`, together with the
    arguments of its constructor.

    Attributes:
        stride: for a decoding step, the architecture is evaluated on every so many knots of the grid, and the smooth
            part of its output carried to the others by cubics; docs/measurements.md has what was measured.
    """

    stride = 2

    def __init__(self) -> None:
        super().__init__()
        # The mixin has gathered the constructor's arguments by now; it writes this dictionary as config.json.
        self._hub_mixin_config = {"architecture": type(self).__name__, **(self._hub_mixin_config or {})}

    def __init_subclass__(cls, **mixin_options: Any) -> None:
        super().__init_subclass__(**mixin_options)
        ARCHITECTURES[cls.__name__] = cls

    @property
    def config(self) -> dict[str, Any]:
        """What `config.json` holds: `architecture` and the arguments of the constructor."""
        return dict(self._hub_mixin_config)

    @abstractmethod
    def smooth_and_truncation(self, t: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The architecture itself.

        Args:
            t: log-probabilities in nats, `[B, S]`, in any order.
            n: how many tokens each stands for, `[B, S]`; points with 0 must not influence the others.

        Returns:
            The smooth part of the output at each point `[B, S]`, and the truncation's scale and threshold,
            each `[B, 1]`.
        """

    def forward(self, t: Tensor, n: Tensor) -> Tensor:
        """Output logits `[B, S]` at the support points `t` with counts `n` (both `[B, S]`)."""
        return truncate(*self.smooth_and_truncation(t, n))

    def logits(self, logits: Tensor, exact: bool = False) -> Tensor:
        """The logits to sample from.

        Args:
            logits: a language model's logits `[..., V]`, any floating type. Tokens at minus infinity stay there.
            exact: evaluate the network on every token instead of on a few knots; the reference, far slower. It can
                be differentiated, and is computed in float64 if sampler and logits are. In float32 it agrees with
                published implementations, and loses as many digits as they do: compare with it in float64.

        Returns:
            `[..., V]` float32, defined up to a constant per row.

        Raises:
            ValueError: a row holds NaN or plus infinity, or no token that is not masked.
        """
        rows = logits.reshape(-1, logits.shape[-1])
        if exact:
            kept, masked, _ = mask_and_check(rows)
            # PyTorch's own, as published samplers were trained and run with, and not the more accurate one.
            log_probs = kept.log_softmax(-1)
            smallest = log_probs.masked_fill(masked, torch.inf).amin(-1, keepdim=True)
            output = self(log_probs.maximum(smallest), (~masked).to(log_probs)).masked_fill(masked, -torch.inf)
        else:
            output = passes_for(rows.device).spread(rows, *self._at_knots(rows))
        return output.reshape(logits.shape)

    @torch.no_grad()
    def sample(self, logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw a token for each row of `logits` `[..., V]`: token ids `[...]`, int64.

        One uniform number a row and the inverse of the cumulative distribution. No output logits are stored.

        Raises:
            ValueError: a row holds NaN or plus infinity, or no token that is not masked.
        """
        rows = logits.reshape(-1, logits.shape[-1])
        uniforms = torch.rand(len(rows), dtype=torch.float64, device=rows.device, generator=generator)
        return passes_for(rows.device).draw(rows, *self._at_knots(rows), uniforms).reshape(logits.shape[:-1])

    @torch.inference_mode()
    def _at_knots(self, logits: Tensor) -> tuple[Grid, Tensor, Tensor, Tensor]:
        """Condense logits `[B, V]` and evaluate the architecture at the knots, as `spread` and `draw` want it."""
        condensed = passes_for(logits.device).condense(logits, INTERVALS)
        sketch = on_every(self.stride, condensed.sketch)
        dtype = next(self.parameters()).dtype
        smooth, scale, threshold = self._evaluate(sketch.t.to(dtype), sketch.n.to(dtype))
        return condensed.grid, between(self.stride, smooth), scale, threshold

    def _evaluate(self, t: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`smooth_and_truncation` where no gradients are wanted; for an architecture that has a quicker way then."""
        return self.smooth_and_truncation(t, n)

    def as_logits_processor(self) -> "LogitsProcessor":
        """This sampler as a Hugging Face `LogitsProcessor`.

        Give it to `generate(..., do_sample=True, logits_processor=[processor])`. The model's generation
        config may add temperature, top-k or top-p after it: pass `temperature=1.0, top_k=0, top_p=1.0` to
        switch them off.
        """
        from adaptive_samplers.samplers.hugging_face import AdaptiveLogitsProcessor

        return AdaptiveLogitsProcessor(self)

    @classmethod
    def from_pretrained(cls, path_or_repo: str | Path, **hub_options: Any) -> "AdaptiveSampler":
        """Load a sampler from a folder or the Hugging Face hub, as the subclass that `config.json` names.

        Args:
            path_or_repo: a folder with `config.json` and `model.safetensors`, or a hub id.
            hub_options: `revision`, `token`, `cache_dir`, `force_download`, `local_files_only` for the hub;
                `map_location`, the device to load to.

        Raises:
            UserError: there is no such folder, a file is missing, or `config.json` does not describe a sampler.
        """
        try:
            return super().from_pretrained(path_or_repo, **hub_options)
        except HFValidationError as error:
            raise UserError(f"{path_or_repo}: no such folder, and not a hub id either") from error

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        config: dict[str, Any] | None = None,
        map_location: str = "cpu",
        **options: Any,
    ) -> "AdaptiveSampler":
        if config is None or "architecture" not in config:
            raise UserError(f"{model_id}: no config.json that names an `architecture`; is this a saved sampler?")
        arguments = {key: value for key, value in config.items() if key != "architecture"}
        sampler = create_sampler(config["architecture"], arguments)
        if not isinstance(sampler, cls):
            raise UserError(f"{model_id}: holds a {config['architecture']}, not a {cls.__name__}")
        sampler.load_state_dict(load_file(_weights_file(model_id, options), device=str(map_location)))
        return sampler.to(map_location).eval()


def _weights_file(model_id: str, options: dict[str, Any]) -> Path:
    """Where the weights lie, fetched from the hub if need be. Only safetensors: a pickle can run code."""
    folder = Path(model_id)
    if folder.is_dir():
        if not (folder / "model.safetensors").is_file():
            raise UserError(f"{folder}: model.safetensors is missing; save the sampler with `save_pretrained`")
        return folder / "model.safetensors"
    hub_keys = ("revision", "cache_dir", "force_download", "local_files_only", "token")
    try:
        return Path(hf_hub_download(model_id, "model.safetensors", **{key: options.get(key) for key in hub_keys}))
    except EntryNotFoundError as error:
        raise UserError(f"{model_id}: the hub has no model.safetensors for it") from error


def create_sampler(architecture: str, config: dict[str, Any]) -> AdaptiveSampler:
    """A sampler by the name of its architecture and the arguments of its constructor.

    Raises:
        UserError: there is no such architecture, or it does not take these arguments.
    """
    if architecture not in ARCHITECTURES:
        raise UserError(f"unknown architecture {architecture!r}; there are {', '.join(sorted(ARCHITECTURES))}")
    sampler_class = ARCHITECTURES[architecture]
    try:
        inspect.signature(sampler_class).bind(**config)
    except TypeError as error:
        raise UserError(f"configuration of {architecture}: {error}") from error
    return sampler_class(**config)


def build_sampler(architecture: str, config: dict[str, Any], seed: int) -> AdaptiveSampler:
    """A new sampler whose initial weights follow from `seed` alone; the global random state stays as it is.

    Raises:
        UserError: there is no such architecture, or it does not take these arguments.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create_sampler(architecture, config)


@lru_cache(maxsize=8)
def load_sampler(path: str, device: str) -> AdaptiveSampler:
    """A saved sampler, read once a process: engines apply it at every token."""
    return AdaptiveSampler.from_pretrained(path).to(device)
