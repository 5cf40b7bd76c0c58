"""Where the weights of a policy come from, for `models.fetch`. Needs nothing but the config."""

from collections.abc import Mapping
from typing import Any


def policy_source(policy: Mapping[str, Any], base_model: Mapping[str, Any]) -> dict[str, Any]:
    """The source of an entry of `policy_samples.policies`: a model, or an adapter and the model that it is merged into.

    Parameters
    ----------
    policy : with `source` and `adapter`, each None where there is none.
    base_model : the config's `model`, which stands in for a policy's missing source.
    """
    source = policy["source"] or base_model["source"]
    if policy["adapter"] is None:
        return source
    return {"kind": "adapter", "adapter": policy["adapter"], "base": source}
