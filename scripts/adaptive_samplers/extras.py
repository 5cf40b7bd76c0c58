"""Which parts of the library need more than `pip install .`, and an error that says so if it is missing."""

import sys
from types import FrameType
from typing import Any

from adaptive_samplers.errors import UserError

# The packages, by the names under which they are imported, that each extra of pyproject.toml brings; tests keep the
# two in step. A part of the library whose name is an extra's needs that one.
_PREFERENCES = frozenset({"pandas", "pyarrow"})
_LABELS = frozenset(
    {
        *("choix", "if_verifiable", "langdetect", "latex2sympy2_extended", "math_verify", "networkx"),
        *("nltk", "pandas", "pyarrow", "requests", "sacrebleu", "sentence_transformers", "sklearn", "sympy"),
        *("threadpoolctl", "tqdm"),
    }
)
EXTRAS = {
    "preferences": _PREFERENCES,
    "labels": _LABELS,
    "serving": frozenset({"requests", "sglang", "threadpoolctl", "uvicorn"}),
    "vllm": frozenset({"requests", "threadpoolctl", "vllm"}),
    "pipeline": _LABELS | _PREFERENCES | {"jsonschema", "matplotlib", "peft", "snakemake", "tensorboard", "typst"},
    "overlap": frozenset({"tokengrams"}),
    "reasoning-gym": frozenset({"reasoning_gym"}),
}
_IMPORT_SYSTEM = {
    *("_frozen_importlib", "importlib._bootstrap"),
    *("_frozen_importlib_external", "importlib._bootstrap_external"),
}


class MissingPackage(UserError, ModuleNotFoundError):
    """A package that a part of the library needs is not installed; the message names the extra that provides it."""


def extra_with(package: str, module: str) -> str | None:
    """The extra to install for a module that lacks a package: its own, or the pipeline's, or the only one with it."""
    part = module.split(".")[1:2]
    for extra in [*part, "pipeline", *EXTRAS]:
        if package in EXTRAS.get(extra, ()):
            return extra
    return None


class _ExtraFinder:
    """The last finder to be asked for a module: if this library imports it, it says which extra is missing.

    Imports by other code, and `importlib.util.find_spec`, are not affected.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        module = _importing_module(sys._getframe(1))
        if module and (extra := extra_with(name, module)):
            raise MissingPackage(
                f"{module} needs the package {name}, which is not installed: "
                f"pip install 'adaptive-samplers[{extra}]', or in a clone pip install '.[{extra}]'",
                name=name,
            )


def _importing_module(frame: FrameType | None) -> str | None:
    """The module of this library in which an import began, through modules that import each other; None if none did."""
    module = None
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name not in _IMPORT_SYSTEM:
            if name.split(".")[0] != "adaptive_samplers":
                break
            module = name
            if frame.f_code.co_name != "<module>":
                break  # imported by a function, when it was called
        frame = frame.f_back
    return module


def name_missing_extras() -> None:
    """From now on, imports in this library that fail because of a missing extra raise `MissingPackage`."""
    sys.meta_path.append(_ExtraFinder())
