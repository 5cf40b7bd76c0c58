"""Where the weights of a policy come from, for `models.fetch`. Needs nothing but the config."""

from typing import Any

from adaptive_samplers.config.model.policies import Policy
from adaptive_samplers.config.model.sources import BaseModelSettings


def policy_source(policy: Policy, base_model: BaseModelSettings) -> dict[str, Any]:
    """The source of a policy: a model, or an adapter and the model that it is merged into.

    Parameters
    ----------
    base_model : the model that stands in for a policy's missing source.
    """
    source = (policy.source or base_model.source).model_dump()
    if policy.adapter is None:
        return source
    return {"kind": "adapter", "adapter": policy.adapter.model_dump(), "base": source}
