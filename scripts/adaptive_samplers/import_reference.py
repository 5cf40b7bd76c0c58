"""Turn a checkpoint of the published reference implementation into a sampler folder of this project.

    python -m adaptive_samplers.import_reference CHECKPOINT --architecture NAME --config FILE.yaml --output FOLDER

The reference writes the three architectures as a plain `state_dict`, often compiled and in bfloat16. Their tensors have
the names of this project's, so importing is checking, converting to float32, and saving. Nothing in the checkpoint is
executed: a pickle is read with `weights_only`.
"""

import argparse
import math
import pickle
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import atomic_output, write_json
from adaptive_samplers.hashing import file_sha256
from adaptive_samplers.provenance import provenance
from adaptive_samplers.samplers.base import DEFAULT_LOWEST_LOG_PROB, AdaptiveSampler, build_sampler
from adaptive_samplers.samplers.registry import ARCHITECTURES

# Without a scaling head the reference multiplies by softplus(1), this project by 1. Kept, so that outputs agree.
REFERENCE_MULTIPLIER = math.log1p(math.e)

# Not constructor arguments, but stored with them.
RANGE = "lowest_log_prob"

# Parts of a name that wrappers add: torch.compile and data parallelism.
WRAPPER_PARTS = {"_orig_mod", "module"}

# Keys under which training loops store a state_dict among other things.
STATE_DICT_KEYS = ("state_dict", "model_state_dict", "sampler_state_dict", "model", "sampler", "module")


def import_checkpoint(checkpoint: Path, architecture: str, config: Path, output: Path) -> AdaptiveSampler:
    """Convert a checkpoint of the reference implementation and save it as a sampler folder.

    Parameters
    ----------
    checkpoint : a file of `torch.save`, or one that ends in `.safetensors`; it holds a `state_dict`, or a dictionary
        with one under a usual key.
    architecture : the name of the reference's class.
    config : YAML with the arguments of its constructor. What is left out and can be seen from the checkpoint's
        tensors is taken from there. `multiplier` replaces softplus(1) where there is no scaling head, and
        `lowest_log_prob` is the smallest log-probability that it was trained on, which no checkpoint tells.
    output : the folder to write, which must not exist: `config.json`, `model.safetensors` in float32,
        `provenance.json`.

    Returns
    -------
    The sampler.

    Raises
    ------
    UserError
        A file is missing or cannot be read, the architecture is unknown, the config and the checkpoint
        contradict each other, a weight is not finite, or `output` exists.
    """
    if architecture not in VISIBLE_SETTINGS:
        raise UserError(
            f"unknown architecture {architecture!r}; the reference has {', '.join(sorted(VISIBLE_SETTINGS))}"
        )
    if output.exists() or output.is_symlink():
        raise UserError(f"{output}: exists already; remove it or choose another --output")
    given = read_config(config, architecture)
    tensors = read_state_dict(checkpoint)
    visible = VISIBLE_SETTINGS[architecture](tensors)
    for key in given.keys() & visible.keys():
        if given[key] != visible[key]:
            raise UserError(
                f"{config}: {key}: expected {visible[key]} from the tensors in {checkpoint}, found {given[key]}; "
                "take the config that the checkpoint was trained with"
            )
    arguments = {**visible, **given}
    lowest = arguments.pop(RANGE, DEFAULT_LOWEST_LOG_PROB)
    if architecture == "SamplingNetwork" and not arguments["scale"]:
        arguments = {"multiplier": REFERENCE_MULTIPLIER, **arguments}
    try:
        sampler = build_sampler(architecture, arguments, seed=0)
        sampler.lowest_log_prob = lowest
    except UserError as error:
        raise UserError(f"{config}: {error}") from error
    sampler.load_state_dict(matching(tensors, sampler.state_dict(), checkpoint, config))
    with atomic_output(output) as temporary:
        sampler.save_pretrained(temporary)
        source = {"name": checkpoint.name, "sha256": file_sha256(checkpoint)}
        settings = {"architecture": architecture, "config": given}
        write_json(provenance(settings, "torch", "safetensors", checkpoint=source), temporary / "provenance.json")
    return sampler.eval()


def read_config(path: Path, architecture: str) -> dict[str, Any]:
    """The constructor's arguments in a YAML file, each within the limits of its declaration."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; --config names a YAML file") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not YAML: {first_line(error)}") from error
    if config is None:
        config = {}
    if not isinstance(config, dict):
        raise UserError(f"{path}: must be a mapping from argument to value, such as `hidden_dims: 64`")
    try:
        ARCHITECTURES[architecture].check_each({key: value for key, value in config.items() if key != RANGE})
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return config


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint in float32, without what wrappers add to their names."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; CHECKPOINT is a file of torch.save or a .safetensors file")
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            # It warns about pickles that it then refuses; the refusal is enough.
            with warnings.catch_warnings(action="ignore"):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # PyTorch's own message recommends to read the file without this protection.
        raise UserError(
            f"{path}: refused: a pickle that holds more than tensors can run code when it is read, or this is no "
            "checkpoint at all; save `model.state_dict()` alone"
        ) from error
    # Whatever the bytes of a damaged file make the two readers raise; there is no common base class.
    except Exception as error:
        raise UserError(f"{path}: damaged, or no file of its kind: {first_line(error)}; copy it again") from error
    tensors: dict[str, Tensor] = {}
    for stored_name, value in find_state_dict(content, path).items():
        name = ".".join(part for part in str(stored_name).split(".") if part not in WRAPPER_PARTS)
        if name in tensors:
            raise UserError(f"{path}: {name} is there twice, once as {stored_name}; save one model only")
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise UserError(f"{path}: {stored_name} is not a tensor of floating-point numbers")
        tensors[name] = value.float()
        if not tensors[name].isfinite().all():
            raise UserError(f"{path}: {stored_name} holds NaN or infinity; take an earlier checkpoint")
    return tensors


def find_state_dict(content: Any, path: Path) -> Mapping[Any, Any]:
    """The dictionary of tensors in what a checkpoint holds."""
    while isinstance(content, Mapping):
        inner = [content[key] for key in STATE_DICT_KEYS if isinstance(content.get(key), Mapping)]
        if inner:
            content = inner[0]
        elif any(isinstance(value, Tensor) for value in content.values()):
            return content
        else:
            break
    keys = f" but {few(content)}" if isinstance(content, Mapping) and content else ""
    raise UserError(
        f"{path}: no tensors by name in it{keys}; a state_dict may lie at the top or under {', '.join(STATE_DICT_KEYS)}"
    )


def visible_in_local(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Nothing: of `hidden_dims` only two thirds, rounded down, show in the tensors."""
    return {}


def visible_in_simple(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The constructor's arguments that can be inferred from the tensors."""
    return {
        **first_size(tensors, "hidden_dims", "local_mlp.0.bias"),
        "use_dynamic_truncation": has_part(tensors, "truncation_head"),
    }


def visible_in_network(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The constructor's arguments that can be inferred from the tensors."""
    blocks = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
    return {
        **first_size(tensors, "d_model", "encoder.mlp.down_proj.bias"),
        **({"n_blocks": len(blocks)} if blocks else {}),
        "scale": has_part(tensors, "scaling_head"),
    }


VISIBLE_SETTINGS: dict[str, Callable[[dict[str, Tensor]], dict[str, Any]]] = {
    "LocalProbabilityTransform": visible_in_local,
    "SimpleDistributionAwareTransform": visible_in_simple,
    "SamplingNetwork": visible_in_network,
}


def first_size(tensors: dict[str, Tensor], key: str, name: str) -> dict[str, int]:
    """`key` with the length of the vector `name`, if there is such a vector."""
    return {key: len(tensors[name])} if name in tensors and tensors[name].ndim == 1 else {}


def has_part(tensors: dict[str, Tensor], part: str) -> bool:
    """Whether some tensor belongs to the submodule `part`."""
    return any(name.startswith(f"{part}.") for name in tensors)


def matching(
    tensors: dict[str, Tensor], expected: dict[str, Tensor], checkpoint: Path, config: Path
) -> dict[str, Tensor]:
    """The tensors in the shapes that the sampler has, if names and shapes agree."""
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    if missing or unexpected:
        what = [f"{kind} {few(names)}" for kind, names in (("lacks", missing), ("has also", unexpected)) if names]
        raise UserError(f"{checkpoint}: {' and '.join(what)}; check --architecture and {config}")
    # The reference has written its two scalars with shape [] and with [1].
    shaped = {
        name: tensor.reshape(()) if expected[name].ndim == 0 and tensor.numel() == 1 else tensor
        for name, tensor in tensors.items()
    }
    wrong = [name for name in expected if shaped[name].shape != expected[name].shape]
    if wrong:
        name = wrong[0]
        others = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(
            f"{checkpoint}: {name}: expected shape {list(expected[name].shape)} by {config}, "
            f"found {list(shaped[name].shape)}{others}"
        )
    return shaped


def few(names: Any) -> str:
    """The first few names for a message."""
    names = [str(name) for name in names]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def first_line(error: Exception) -> str:
    """What an error says, short enough for a message of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0]


def describe(sampler: AdaptiveSampler, output: Path) -> str:
    """What was imported, where it is, and how to load it."""
    settings = {key: value for key, value in sampler.config.items() if key != "architecture"}
    parameters = sum(parameter.numel() for parameter in sampler.parameters())
    return (
        f"imported {sampler.config['architecture']} with {parameters:,} parameters: "
        f"{', '.join(f'{key} {value}' for key, value in settings.items())}\n"
        f"written to {output}; load it with\n"
        f"from adaptive_samplers import AdaptiveSampler; sampler = AdaptiveSampler.from_pretrained({str(output)!r})"
    )


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m adaptive_samplers.import_reference",
        description="Import a checkpoint of the published reference implementation.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a file of torch.save, or .safetensors")
    parser.add_argument("--architecture", required=True, metavar="NAME", help=", ".join(VISIBLE_SETTINGS))
    parser.add_argument("--config", required=True, type=Path, metavar="FILE.yaml", help="the constructor's arguments")
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="the folder to write")
    options = parser.parse_args(arguments)
    try:
        sampler = import_checkpoint(options.checkpoint, options.architecture, options.config, options.output)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(describe(sampler, options.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
