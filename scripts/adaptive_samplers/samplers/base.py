"""What all samplers share: log-softmax, sketch, interpolation, truncation, drawing, saving, loading."""

import json
from abc import abstractmethod
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from torch import Tensor, nn
from torch.nn.functional import silu

from adaptive_samplers.errors import UserError
from adaptive_samplers.logits import BANNED_DEPTH, mask_and_check
from adaptive_samplers.samplers.passes import Condensed, passes_for
from adaptive_samplers.samplers.passes.knots import INTERVALS, between, is_sound, on_every
from adaptive_samplers.samplers.registry import ARCHITECTURES
from adaptive_samplers.samplers.truncation import truncate
from adaptive_samplers.tensors import load_tensors, save_tensors

if TYPE_CHECKING:
    from transformers import LogitsProcessor

CONFIG = "config"  # its key in the metadata of the weights

# The range of a sampler without a recorded training range, and of a new one. None of 1,000 distributions of the
# embedded model reaches below -48 nats.
DEFAULT_LOWEST_LOG_PROB = -50.0


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

    A subclass defines `smooth_and_truncation` alone, a function of support points and their counts. `definitions`
    declares it under its class name, which `config.json` carries as `architecture`, together with the
    arguments of its constructor and with `lowest_log_prob`, where the range ends that it was trained on.

    It is not evaluated below that range. Tokens there keep their distances in the raw logits, and all are raised by as
    much as the token that the sampler raises least. So none gets more than its share under the raw logits or rises
    above a token in the range, and their order is kept. Servers ban tokens with such logits.

    Attributes
    ----------
    stride : for a decoding step, the architecture is evaluated on every `stride`-th knot of the grid, and the smooth
        part of its output carried to the others by cubics; docs/measurements.md has what was measured.
    statistic_names : what it reads of the whole distribution, where that is a few numbers; a subclass with such names
        defines `statistics` and `smooth_and_truncation_given` too.
    """

    stride = 2
    statistic_names: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        # The mixin has collected the constructor's arguments by now; it writes this dictionary as config.json.
        name, arguments = type(self).__name__, self._hub_mixin_config or {}
        if name in ARCHITECTURES:
            ARCHITECTURES[name].check(arguments)
        self._hub_mixin_config = {"architecture": name, **arguments}
        self.lowest_log_prob = DEFAULT_LOWEST_LOG_PROB

    @property
    def config(self) -> dict[str, Any]:
        """What `config.json` holds: `architecture`, `lowest_log_prob` and the arguments of the constructor."""
        return dict(self._hub_mixin_config)

    @property
    def lowest_log_prob(self) -> float:
        """The smallest log-probability that the sampler was trained on, nats."""
        return self._hub_mixin_config["lowest_log_prob"]

    @lowest_log_prob.setter
    def lowest_log_prob(self, value: float) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not -BANNED_DEPTH <= value <= 0:
            raise UserError(f"lowest_log_prob: expected a number between {-BANNED_DEPTH:g} and 0, found {value!r}")
        self._hub_mixin_config["lowest_log_prob"] = float(value)

    @property
    def takes_preference(self) -> bool:
        """Whether it is one sampler for a whole front: `forward` takes a preference after `t` and `n`."""
        name = type(self).__name__
        return name in ARCHITECTURES and ARCHITECTURES[name].conditioned

    @abstractmethod
    def smooth_and_truncation(self, t: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The architecture itself.

        Parameters
        ----------
        t : log-probabilities in nats, `[B, S]`, in any order.
        n : how many tokens each stands for, `[B, S]`; points with 0 must not influence the others.

        Returns
        -------
        The smooth part of the output at each point `[B, S]`, and the truncation's scale and threshold,
        each `[B, 1]`.
        """

    def statistics(self, t: Tensor, n: Tensor) -> Tensor:
        """What the architecture reads of the whole distribution, `[B, statistics]`, in the order of their names."""
        raise NotImplementedError(f"{type(self).__name__} reads no statistics")

    def smooth_and_truncation_given(self, t: Tensor, statistics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `smooth_and_truncation`, from the statistics `[B, statistics]` instead of the counts."""
        raise NotImplementedError(f"{type(self).__name__} reads no statistics")

    def forward(self, t: Tensor, n: Tensor) -> Tensor:
        """Output logits `[B, S]` at the support points `t` with counts `n` (both `[B, S]`)."""
        return self._bounded(t, n)[0]

    def with_statistics(self, t: Tensor, n: Tensor, statistics: Tensor) -> Tensor:
        """As `forward`, as if the distributions had the statistics `[B, statistics]`."""
        return self._bounded(t, n, statistics)[0]

    def _bounded(self, t: Tensor, n: Tensor, statistics: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `forward` and `with_statistics`; and which rows' function has not overflowed, `[B, 1]`."""
        inside = t.clamp(min=self.lowest_log_prob)
        if statistics is None:
            function = self.smooth_and_truncation(inside, n.where(t > t.amax(-1, keepdim=True) - BANNED_DEPTH, 0))
        else:
            function = self.smooth_and_truncation_given(inside, statistics)
        output = truncate(*function)
        # As in `portable.bounds`: the smallest amount by which a point is raised.
        raised = (output - inside).amin(-1, keepdim=True)
        return output.where(t >= self.lowest_log_prob, t + raised), is_sound(*function)

    def at(self, preference: float | None) -> "AdaptiveSampler":
        """The sampler at a preference between 0 and 1; for None itself, or what it does where none is given.

        Raises
        ------
        UserError
            It takes no preference, or none of this value.
        """
        if preference is None:
            return self
        raise UserError(
            f"preference: {type(self).__name__} takes none: leave it out, or take a sampler that was trained for a "
            f"whole front ({', '.join(name for name, one in ARCHITECTURES.items() if one.conditioned)})"
        )

    def logits(self, logits: Tensor, exact: bool = False, preference: float | None = None) -> Tensor:
        """The logits to sample from.

        Parameters
        ----------
        logits : a language model's logits `[..., V]`, any floating type. Tokens at minus infinity stay there, and so
            do those below `logits.MASKED_BELOW`; all other output is finite. Where the network's weights overflow,
            the output is the raw logits.
        exact : evaluate the network on every token instead of on a few knots; the reference, far slower. It can
            be differentiated, and is computed in float64 if the sampler is. In float32 it agrees with published
            implementations, and loses as many digits as they do: compare with it in float64.
        preference : of a sampler that takes one, see `at`.

        Returns
        -------
        `[..., V]`, defined up to a constant per row; float32, or what `exact` was computed in.

        Raises
        ------
        ValueError
            A row holds NaN or plus infinity, or no token that is not masked; it says which row.
        UserError
            The sampler is in half precision, or takes no such preference.
        """
        if (chosen := self.at(preference)) is not self:
            return chosen.logits(logits, exact)
        rows = logits.reshape(-1, logits.shape[-1])
        if exact:
            return self._on_every_token(rows).reshape(logits.shape)
        passes = passes_for(rows.device)
        compiled = self._compiled_for(passes)
        output = compiled.spread(self, rows) if compiled else passes.spread(rows, *self._at_knots(rows))
        return output.reshape(logits.shape)

    def _on_every_token(self, logits: Tensor) -> Tensor:
        """The output logits `[B, V]` by the architecture's value at each token, in the type of its parameters."""
        kept, masked, _ = mask_and_check(logits)
        # PyTorch's own, with which published samplers were trained and run, and not the more accurate one.
        log_probs = kept.log_softmax(-1).to(self._dtype)
        log_probs = log_probs.clamp(min=torch.finfo(log_probs.dtype).min)
        output, sound = self._bounded(log_probs, (~masked).to(log_probs))
        return output.where(sound, log_probs).masked_fill(masked, -torch.inf)

    @property
    def _dtype(self) -> torch.dtype:
        """The type of the parameters, if it can count a vocabulary."""
        dtype = next(self.parameters()).dtype
        if dtype not in (torch.float32, torch.float64):
            raise UserError(
                f"the sampler is in {dtype}, which cannot count the tokens of a vocabulary: take sampler.float(); "
                "logits may be of any type"
            )
        return dtype

    def sample(
        self, logits: Tensor, generator: torch.Generator | None = None, preference: float | None = None
    ) -> Tensor:
        """Draw a token for each row of `logits` `[..., V]`: token ids `[...]`, int64.

        One uniform number per row and the inverse of the cumulative distribution. No output logits are stored. For a
        `preference`, of a sampler that takes one, see `at`.

        Raises
        ------
        ValueError
            A row holds NaN or plus infinity, or no token that is not masked; it says which row.
        UserError
            The sampler is in half precision, or takes no such preference.
        """
        if (chosen := self.at(preference)) is not self:
            return chosen.sample(logits, generator)
        rows = logits.reshape(-1, logits.shape[-1])
        uniforms = torch.rand(len(rows), dtype=torch.float64, device=rows.device, generator=generator)
        passes = passes_for(rows.device)
        compiled = self._compiled_for(passes)
        if compiled:
            return compiled.draw(self, rows, uniforms).reshape(logits.shape[:-1])
        with torch.no_grad():
            return passes.draw(rows, *self._at_knots(rows), uniforms).reshape(logits.shape[:-1])

    @torch.inference_mode()
    def _at_knots(self, logits: Tensor) -> tuple[Condensed, Tensor, Tensor, Tensor]:
        """Condense logits `[B, V]` and evaluate the architecture at the knots, as `spread` and `draw` expect."""
        dtype = self._dtype
        condensed = passes_for(logits.device).condense(logits, INTERVALS, self.lowest_log_prob)
        sketch = on_every(self.stride, condensed.sketch)
        smooth, scale, threshold = self._evaluate(sketch.t.to(dtype), sketch.n.to(dtype))
        return condensed, between(self.stride, smooth), scale, threshold

    def _compiled_for(self, passes: ModuleType) -> ModuleType | None:
        """A module whose `spread` and `draw` do the whole decoding step where these passes serve a device, if any."""
        return None

    def _evaluate(self, t: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`smooth_and_truncation` without gradients, which an architecture may implement faster."""
        return self.smooth_and_truncation(t, n)

    def as_logits_processor(self, preference: float | None = None) -> "LogitsProcessor":
        """This sampler as a Hugging Face `LogitsProcessor`, for a sampler that takes one at a preference (see `at`).

        Give it to `generate(..., do_sample=True, logits_processor=[processor])`. The model's generation
        config may add temperature, top-k or top-p after it: pass `temperature=1.0, top_k=0, top_p=1.0` to
        switch them off.
        """
        from adaptive_samplers.samplers.hugging_face import AdaptiveLogitsProcessor

        return AdaptiveLogitsProcessor(self, preference)

    def _save_pretrained(self, save_directory: Path) -> None:
        # The mixin writes config.json; the copy next to the weights is covered by their checksum.
        save_tensors(self.state_dict(), save_directory / "model.safetensors", {CONFIG: _canonical(self.config)})

    @classmethod
    def from_pretrained(cls, path_or_repo: str | Path, **hub_options: Any) -> "AdaptiveSampler":
        """Load a sampler from a folder or the Hugging Face hub, as the subclass that `config.json` names.

        Parameters
        ----------
        path_or_repo : a folder with `config.json` and `model.safetensors`, or a hub id.
        hub_options : `revision`, `token`, `cache_dir`, `force_download`, `local_files_only` for the hub;
            `map_location`, the device to load to.

        Raises
        ------
        UserError
            There is no such folder, a file is missing, or `config.json` does not describe a sampler.
        """
        try:
            return super().from_pretrained(path_or_repo, **hub_options)
        except HFValidationError as error:
            raise UserError(f"{path_or_repo}: no such folder, and not a hub id either") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path_or_repo}: config.json is damaged ({error}); train the sampler again") from error

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
            raise UserError(
                f"{model_id}: no config.json that names an `architecture`; is this a saved sampler? If it was damaged, "
                "train the sampler again"
            )
        arguments = dict(config)
        architecture = arguments.pop("architecture")
        lowest = arguments.pop("lowest_log_prob", DEFAULT_LOWEST_LOG_PROB)
        try:
            sampler = create_sampler(architecture, arguments)
            sampler.lowest_log_prob = lowest
        except UserError as error:
            raise UserError(f"{model_id}: config.json: {error}; correct it, or train the sampler again") from error
        if not isinstance(sampler, cls):
            raise UserError(f"{model_id}: holds a {config['architecture']}, not a {cls.__name__}")
        weights = _weights_file(model_id, options)
        tensors, metadata = load_tensors(weights, ours=False)
        if metadata.get(CONFIG, _canonical(config)) != _canonical(config):
            raise UserError(
                f"{model_id}: config.json is not the one that {weights.name} was saved with, or damaged; train the "
                "sampler again"
            )
        check_weights(tensors, sampler, weights)
        sampler.load_state_dict(tensors)
        return sampler.to(map_location).eval()


def _weights_file(model_id: str, options: dict[str, Any]) -> Path:
    """Where the weights are, fetched from the hub if necessary. Only safetensors: a pickle can run code."""
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


def _canonical(config: dict[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)


def check_weights(tensors: dict[str, Tensor], sampler: AdaptiveSampler, path: Path) -> None:
    """Refuse tensors read from `path` that are not finite, or do not fit the sampler.

    Raises
    ------
    UserError
        A tensor is missing, unknown, of another shape, or not finite.
    """
    expected = sampler.state_dict()
    for name in expected.keys() | tensors.keys():
        if name not in tensors:
            raise UserError(f"{path}: lacks the tensor {name}; config.json and weights are of different samplers")
        if name not in expected:
            raise UserError(f"{path}: has a tensor {name} that config.json knows nothing of")
        found, wanted = list(tensors[name].shape), list(expected[name].shape)
        if found != wanted:
            raise UserError(f"{path}: {name}: expected shape {wanted} by config.json, found {found}")
        if not tensors[name].isfinite().all():
            raise UserError(f"{path}: {name} holds NaN or infinity; train the sampler again")


def create_sampler(architecture: str, config: dict[str, Any]) -> AdaptiveSampler:
    """A sampler by the name of its architecture and the arguments of its constructor.

    Raises
    ------
    UserError
        There is no such architecture, or it does not take these arguments.
    """
    if architecture not in ARCHITECTURES:
        raise UserError(f"unknown architecture {architecture!r}; there are {', '.join(sorted(ARCHITECTURES))}")
    return ARCHITECTURES[architecture](**config)


def build_sampler(architecture: str, config: dict[str, Any], seed: int) -> AdaptiveSampler:
    """A new sampler whose initial weights follow from `seed` alone; the global random state stays as it is.

    Raises
    ------
    UserError
        There is no such architecture, or it does not take these arguments.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create_sampler(architecture, config)


@lru_cache(maxsize=64)
def load_sampler(path: str, device: str, preference: float | None = None) -> AdaptiveSampler:
    """A saved sampler, read once per process: engines apply it at every token.

    Raises
    ------
    UserError
        It cannot be loaded, or takes no such preference; it says which file.
    """
    sampler = AdaptiveSampler.from_pretrained(path).to(device)
    try:
        return sampler.at(preference)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
