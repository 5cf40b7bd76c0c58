"""A sampling network that takes a preference: one network for a whole front, from quality to diversity."""

from collections import OrderedDict
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import silu

from adaptive_samplers.samplers.base import AdaptiveSampler
from adaptive_samplers.samplers.network import SamplingNetwork
from adaptive_samplers.samplers.registry import checked_preference

KEPT = 64  # networks at a fixed preference that are remembered of each sampler


class ConditionedSamplingNetwork(AdaptiveSampler):
    """A `SamplingNetwork` whose biases are shifted by a function of a preference between 0 and 1.

    What a preference means is decided by training: 0 is the mean reward, 1 is diversity, or the best of several. At a
    fixed preference it is an ordinary `SamplingNetwork`, which `at` returns. `logits` and `sample` compute with that
    one, so that only `forward` has gradients with respect to the parameters.

    Parameters
    ----------
    d_model, d_ff, n_blocks, n_heads, scale : see `SamplingNetwork`.
    d_preference : hidden features of the function of the preference.
    preference : the one that is taken where none is given.

    Raises
    ------
    UserError
        An argument is out of its limits (`definitions`), or `n_heads` does not divide `d_model`.
    """

    stride = SamplingNetwork.stride

    def __init__(
        self,
        d_model: int = 32,
        d_ff: int = 64,
        n_blocks: int = 4,
        n_heads: int = 4,
        scale: bool = True,
        d_preference: int = 16,
        preference: float = 0.5,
    ) -> None:
        super().__init__()
        self.network = SamplingNetwork(d_model, d_ff, n_blocks, n_heads, scale)
        self.sizes = {name: self.network.get_parameter(name).numel() for name in _shifted_biases(self.network)}
        self.hidden = nn.Linear(1, d_preference)
        self.shifts = nn.Linear(d_preference, sum(self.sizes.values()))
        # All preferences are alike until training tells them apart.
        nn.init.zeros_(self.shifts.weight)
        nn.init.zeros_(self.shifts.bias)

    @property
    def preference(self) -> float:
        """The preference that is taken where none is given, from `config.json`."""
        return float(self._hub_mixin_config["preference"])

    def biases(self, preference: float | None = None) -> dict[str, Tensor]:
        """The biases of `network` at a preference, by name, with gradients."""
        asked = self.preference if preference is None else checked_preference(preference)
        centered = self.hidden.weight.new_tensor([2 * asked - 1])
        parts = self.shifts(silu(self.hidden(centered))).split([*self.sizes.values()])
        return {name: self.network.get_parameter(name) + part for name, part in zip(self.sizes, parts, strict=True)}

    def forward(self, t: Tensor, n: Tensor, preference: float | None = None) -> Tensor:
        """Output logits `[B, S]` at the support points `t` with counts `n` (both `[B, S]`), for a preference.

        Raises
        ------
        UserError
            The preference is no number between 0 and 1.
        """
        self.network.lowest_log_prob = self.lowest_log_prob
        return functional_call(self.network, self.biases(preference), (t, n))

    def smooth_and_truncation(self, t: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """That of the network at the preference in `config.json`, without gradients of the parameters."""
        return self.at(None).smooth_and_truncation(t, n)

    @torch.inference_mode(False)  # what is remembered must be usable in training too
    @torch.no_grad()
    def at(self, preference: float | None) -> SamplingNetwork:
        """The network at a preference, as the `SamplingNetwork` that it is; at that of `config.json` for None.

        It is a copy, which is made once until weights change; a change through `.data` is not noticed.

        Raises
        ------
        UserError
            The preference is no number between 0 and 1.
        """
        asked = self.preference if preference is None else checked_preference(preference)
        # Versions count what is written into a tensor, and addresses tell those apart that replace one another.
        versions = [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in self.parameters()]
        state = (self.lowest_log_prob, versions)
        known = _made.setdefault(self, OrderedDict())
        found, network, _ = known.get(asked, (None, None, None))
        if found != state:
            network = self._made_at(asked)
            # As long as their memory is kept, an address means one parameter.
            known[asked] = state, network, [p.detach() for p in self.parameters()]
        known.move_to_end(asked)
        while len(known) > KEPT:
            known.popitem(last=False)
        return network

    def _made_at(self, preference: float) -> SamplingNetwork:
        options = {name: self.config[name] for name in ("d_model", "d_ff", "n_blocks", "n_heads", "scale")}
        # Without initial weights, which would be drawn from the global random state.
        with torch.device("meta"):
            network = SamplingNetwork(**options)
        weights = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        network.load_state_dict(weights | self.biases(preference), assign=True)
        network.lowest_log_prob = self.lowest_log_prob
        return network.requires_grad_(False).eval()


def _shifted_biases(network: SamplingNetwork) -> list[str]:
    """The names of the biases that a preference shifts: what the encoder and each block give, and all of the heads.

    The norms end what a block does, and all that follows is a function of them.
    """
    ends = ("encoder.mlp.down_proj.bias", ".norm1.bias", ".norm2.bias")
    names = [name for name, _ in network.named_parameters()]
    return [name for name in names if name.endswith(ends) or ("_head." in name and name.endswith(".bias"))]


# Kept outside the samplers, so that they are copied and saved without it.
_made: WeakKeyDictionary[ConditionedSamplingNetwork, OrderedDict] = WeakKeyDictionary()
