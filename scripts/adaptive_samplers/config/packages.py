"""Packages that few configs need and that only their users install."""

import importlib.util
import sys

from adaptive_samplers.config.model import Config
from adaptive_samplers.errors import UserError


def require_packages(config: Config) -> None:
    """Refuse a config whose jobs would lack a package if they run with this interpreter.

    Raises
    ------
    UserError
        With the key that needs the package and the command that installs it.
    """
    overlap = config.labels.overlap
    if overlap.enabled and overlap.kind == "local" and importlib.util.find_spec("tokengrams") is None:
        raise UserError(
            "labels.overlap: kind local needs the package tokengrams, which is not installed; type\n"
            f"  {sys.executable} -m pip install tokengrams\n"
            "For Python 3.12 and newer there are no wheels of it, and this needs a Rust compiler: take Python 3.11 "
            "(make demo PYTHON=python3.11). Or choose kind: infinigram, or enabled: false."
        )
