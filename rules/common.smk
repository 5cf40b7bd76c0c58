# Helpers only: the validated config, the names that follow from it, and what several rules share.

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from adaptive_samplers.config import config_slice, load_config, weight_names
from adaptive_samplers.errors import UserError
from adaptive_samplers.heuristics import configured_pipeline, pipeline_name
from adaptive_samplers.versions import STAGE_VERSIONS

try:
    config = load_config(config, Path.cwd())
except UserError as error:
    # Without the traceback, which would tell a user nothing.
    raise WorkflowError(str(error)) from None

RUN = config["run"]["name"]
SHARDS = range(config["generation"]["shards"])
REPLAY_SHARDS = range(config["training"]["replay_shards"])
SEEDS = config["seeds"]
BASE_MODEL = config["model"]["name"]
EMBEDDER = config["labels"]["embedder"]["name"]
MODELS = {BASE_MODEL: config["model"], EMBEDDER: config["labels"]["embedder"]}
WEIGHTS = weight_names(config)
ARCHITECTURES = list(config["samplers"])
TRAINING_SETS = expand(
    "{weights}_top{top_k}", weights=WEIGHTS, top_k=config["scoring"]["top_k"]
)
SAMPLERS = expand(
    "{architecture}/{training_set}",
    architecture=ARCHITECTURES,
    training_set=TRAINING_SETS,
)
LABELS = ["quality", "diversity", "correctness"]
# Overlap is a label like the others, but neither scores nor comparisons need it: it is made where the config says so.
OVERLAP = [
    f"results/{RUN}/{part}labels/overlap.parquet"
    for part in ("", "evaluation/")
    if config["labels"]["overlap"]["enabled"]
]

INTERMEDIATE = [
    *expand(
        f"results/{RUN}/{{name}}.parquet",
        name=["prompts", "heuristics", "candidates", "embeddings", "scores"],
    ),
    *expand(
        f"results/{RUN}/{{part}}labels/{{label}}.parquet",
        part=["", "evaluation/"],
        label=LABELS,
    ),
    *expand(
        f"results/{RUN}/candidates/seed={{seed}}/shard={{shard}}.parquet",
        seed=SEEDS,
        shard=SHARDS,
    ),
    *expand(
        f"results/{RUN}/training_sets/{{training_set}}.parquet",
        training_set=TRAINING_SETS,
    ),
    *expand(
        f"results/{RUN}/sketches/shard={{shard}}.safetensors",
        shard=REPLAY_SHARDS,
    ),
    *expand(f"results/{RUN}/samplers/{{sampler}}", sampler=SAMPLERS),
    *expand(f"results/{RUN}/evaluation/samplers/{{sampler}}.parquet", sampler=SAMPLERS),
    *expand(
        f"results/{RUN}/evaluation/{{name}}.parquet",
        name=["candidates", "heuristics", "embeddings"],
    ),
]


wildcard_constraints:
    run=re.escape(RUN),
    model="|".join(map(re.escape, MODELS)),
    seed=r"\d+",
    shard=r"\d+",
    weights=r"a[^_/]+_b[^_/]+_c[^_/]+",
    top_k=r"\d+",
    architecture="|".join(ARCHITECTURES),
    heuristic=r"[^/]+",


def stage(name, *keys):
    """A rule's params: the version of its stage and exactly the slice of the config that its output depends on."""
    return {"version": STAGE_VERSIONS[name], **config_slice(config, *keys)}


def growing(amount):
    """A resource that grows with each attempt, for jobs that were killed for taking more."""
    return lambda wildcards, attempt: amount * attempt
