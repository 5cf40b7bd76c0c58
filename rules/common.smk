# Helpers only: the validated config, the names derived from it, and what several rules share. Helpers for judges are in
# judges.smk, those for policies and generations of samplers in policy_sampling.smk.

import os
import re
import sys
from pathlib import Path

from snakemake_interface_executor_plugins.utils import encode_target_jobs_cli_args

LIBRARY = str(Path(workflow.basedir) / "scripts")
sys.path.insert(0, LIBRARY)
# Jobs use this copy of the library even if another version is installed: Snakemake puts a script's folder last.
PYTHON_PATHS = [LIBRARY, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
os.environ.update(PYTHONPATH=os.pathsep.join(dict.fromkeys(filter(None, PYTHON_PATHS))))

from adaptive_samplers.config.judges import judge_name, judged_by, judges_by_name
from adaptive_samplers.config.load import load_config
from adaptive_samplers.config.packages import require_packages
from adaptive_samplers.config.slices import (
    PLANNED_STAGES,
    slice_of_stage,
    slice_of_stages,
    unrelated_slice,
)
from adaptive_samplers.config.typed import typed_config
from adaptive_samplers.config.weights import (
    IMITATION,
    lesson_names,
    objective_name,
    rounds_by_objective,
    sampler_families,
    sampler_names,
    samplers_by_rule,
    training_set_of,
    weight_names,
)
from adaptive_samplers.engines.registry import ENGINES, records_draws
from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import file_sha256
from adaptive_samplers.heuristics import configured_pipeline, pipeline_name
from adaptive_samplers.labels.judges.registry import JUDGES as JUDGE_KINDS
from adaptive_samplers.labels.judges.registry import has_likelihood
from adaptive_samplers.measures import JUDGED_SPLITS, tables_of
from adaptive_samplers.policies.sources import policy_source
from adaptive_samplers.preferences.formats import (
    exported_files,
    file_name as preference_file,
)
from adaptive_samplers.restarts import refuse_living_jobs, sign_in
from adaptive_samplers.slurm import refuse_duplicates
from adaptive_samplers.samplers import ARCHITECTURES as DECLARED
from adaptive_samplers.stage import installed_copy
from adaptive_samplers.training.objectives import OBJECTIVES
from adaptive_samplers.versions import STAGE_VERSIONS

# In environments that Snakemake creates, jobs have no PYTHONPATH and find packages installed next to Snakemake first.
if workflow.deployment_settings.deployment_method and (copy := installed_copy()):
    raise WorkflowError(
        f"with --sdm, jobs would run the library installed in {copy.parent}, not the one in {LIBRARY}: "
        "`pip uninstall adaptive-samplers` where Snakemake is, or install it there with `pip install --editable .`"
    )

try:
    config = load_config(config, Path.cwd())
    CONFIG = typed_config(config)
    # Conda's environments and images have packages of their own.
    if not workflow.deployment_settings.deployment_method:
        require_packages(CONFIG)
except UserError as error:
    # Without the traceback, which would not help a user.
    raise WorkflowError(str(error)) from None

RUN = CONFIG.run.name
# Jobs that load this file again belong to the Snakemake that started them, and --nolock takes no locks.
if workflow.is_main_process and "--nolock" not in sys.argv:
    sign_in(RUN)
# Folders of the generations of learned samplers inside the run's, made by the same rules; the first is the run itself.
SAMPLER_GENERATIONS = [""] + [
    f"sampler_generation={number}/"
    for number in range(2, CONFIG.sampler_generations.generations + 1)
]
# Files that are the same in all generations are made once.
MODELS_FOLDER = f"results/{RUN}/models"


def results(path):
    """A file of the run, or of a later generation of samplers in it."""
    return f"results/{{run}}/{{sampler_generation}}{path}"


def logs(name):
    """The log of a job."""
    return f"logs/{{run}}/{{sampler_generation}}{name}.log"


def benchmarks(name):
    """Time and memory of a job."""
    return f"benchmarks/{{run}}/{{sampler_generation}}{name}.tsv"


SHARDS = range(CONFIG.generation.shards)
REPLAY_SHARDS = range(CONFIG.training.replay_shards)
DRAW_SHARDS = range(CONFIG.off_policy.shards)
JUDGE_SHARDS = range(CONFIG.labels.quality.shards)
SEEDS = CONFIG.seeds
ADAPTIVE_BUDGETS = CONFIG.generation.adaptive.enabled
# Says which answers were requested, if not all.
ALLOCATION = {"allocation": results("allocation.parquet")} if ADAPTIVE_BUDGETS else {}

BASE_MODEL = CONFIG.model.name
EMBEDDER = CONFIG.labels.embedder.name
# GPUs that a job with a model in its own process asks for. Rules without a model ask for none, and see none in SLURM.
GPUS = 0 if CONFIG.model.device == "cpu" else 1
JUDGE = CONFIG.labels.quality.judge
# Embedded judges are trained by the DAG; every other judge has its own model, or one behind an endpoint.
JUDGES = judges_by_name(CONFIG)
OTHER_JUDGES = [name for name in JUDGES if name != judge_name(JUDGE)]
# The judges to train, wherever they are in the list.
TRAINED_JUDGES = [
    name for name, judge in JUDGES.items() if JUDGE_KINDS[judge.kind].is_trained
]
JUDGE_READS_LIKELIHOOD = judge_name(JUDGE) in TRAINED_JUDGES and has_likelihood(
    JUDGE.features
)
# With several judges, each judge's ratings have their own table, next to the one used as quality.
GATHERED = "quality/{judge}" if OTHER_JUDGES else "quality"
MODELS = {BASE_MODEL: CONFIG.model, EMBEDDER: CONFIG.labels.embedder}
MODELS |= {
    name: judge for name, judge in JUDGES.items() if JUDGE_KINDS[judge.kind].has_model
}
# Policies are models that only the targets `policy_samples` and `iterations` need.
POLICIES = {policy.name: policy for policy in CONFIG.policy_samples.policies} or {
    BASE_MODEL: CONFIG.model
}
WEIGHTS = weight_names(CONFIG.scoring)
ARCHITECTURES = [name for name, options in CONFIG.samplers if options is not None]
TRAINING_SETS = expand(
    "{weights}_top{top_k}", weights=WEIGHTS, top_k=CONFIG.scoring.top_k
)
SAMPLERS = sampler_names(CONFIG)
SAMPLERS_IN_ROUNDS = [
    name for names in rounds_by_objective(CONFIG).values() for name in names
]
# At which learned samplers are evaluated; no preferences in runs without samplers that take one.
EVALUATED_AT = {
    "preferences": (
        CONFIG.evaluation.preferences
        if any(DECLARED[name].conditioned for name in ARCHITECTURES)
        else []
    ),
    "temperatures": CONFIG.evaluation.temperatures,
}
# In a run with a plan, no rule reads the labels of test answers before it is declared.
BEHIND_PLAN = (
    {"plan": results("protocol/plan.json")}
    if CONFIG.evaluation.protocol.enabled
    else {}
)
LABELS = ["quality", "diversity", "correctness"]
# Overlap is a label like the others, but neither scores nor comparisons need it: it is made only if the config asks.
OVERLAP = [
    f"results/{RUN}/{part}labels/overlap.parquet"
    for part in ("", "evaluation/")
    if CONFIG.labels.overlap.enabled
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
        f"results/{RUN}/{{part}}labels/quality/{{judge}}.parquet",
        part=["", "evaluation/"],
        judge=JUDGES if OTHER_JUDGES else [],
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
    *expand(
        f"results/{RUN}/{{name}}.parquet",
        name=[
            "allocation",
            "first_phase/scores",
            "first_phase/candidates",
            "second_phase/candidates",
        ]
        * ADAPTIVE_BUDGETS,
    ),
]


wildcard_constraints:
    run=re.escape(RUN),
    sampler_generation="|".join(map(re.escape, SAMPLER_GENERATIONS)),
    judged="|".join(JUDGED_SPLITS),
    model="|".join(map(re.escape, MODELS | POLICIES)),
    policy="|".join(map(re.escape, POLICIES)),
    round=r"[1-9]\d*",
    seed=r"\d+",
    shard=r"\d+",
    judge="|".join(map(re.escape, JUDGES)),
    weights=r"a[^_/]+_b[^_/]+_c[^_/]+|pareto",
    # Of the rules that train; each says which.
    objective=r"|_[a-z][a-z0-9_]*",
    top_k=r"\d+",
    architecture="|".join(ARCHITECTURES),
    heuristic=r"[^/]+",


def stage(name, of=config):
    """A rule's params: its stage's version, and exactly the part of the config that the stage's output depends on.

    Anything else the stage may read is `unrelated`: params that depend on threads never make a rule run again. `of` is
    a config in place of the run's, or a function that makes one of the wildcards.
    """
    made = of if callable(of) else lambda wildcards: of
    settings = lambda wildcards: slice_of_stage(made(wildcards), name)
    return {
        "version": STAGE_VERSIONS[name],
        "settings": settings if callable(of) else settings(None),
        "unrelated": lambda wildcards, threads: unrelated_slice(made(wildcards), name),
    }


def whole_config(wildcards, threads):
    """A param that passes a stage the whole config without ever making a rule run again."""
    return config


def with_one_architecture(wildcards):
    """The config with the architecture that a wildcard names as the only one."""
    options = config["samplers"][wildcards.architecture]
    return config | {"samplers": {wildcards.architecture: options}}


def with_one_sampler(wildcards):
    """The config with the architecture and the training objective that wildcards name as the only ones."""
    name = wildcards.objective.removeprefix("_") or IMITATION
    chosen = [
        options
        for options, objective in zip(
            config["training"]["objectives"], CONFIG.training.objectives
        )
        if objective_name(objective) == name
    ]
    alone = {"training": config["training"] | {"objectives": chosen}}
    return with_one_architecture(wildcards) | alone


def objectives_of(recorded):
    """A pattern of the endings of samplers' names: of objectives on recorded draws, or of those on selected answers."""
    names = [
        objective_name(objective)
        for objective in CONFIG.training.objectives
        if OBJECTIVES[objective.kind].data.recorded == recorded
    ]
    endings = ["" if name == IMITATION else re.escape(f"_{name}") for name in names]
    # Without any, a pattern that matches nothing; an empty one would match everything.
    return f"(?:{'|'.join(endings)})" if names else "(?!)"


ENGINE = ENGINES[CONFIG.generation.engine]
GENERATION_GPUS = ENGINE.gpus_of(CONFIG.generation, CONFIG.model.device)
GENERATION_ENVIRONMENT = f"../envs/{ENGINE.environment}.yaml"


def source_of(model):
    """Where a model comes from, as `fetch_model` expects it: a policy may be an adapter and its base."""
    if model in MODELS:
        return MODELS[model].source.model_dump()
    return policy_source(POLICIES[model], CONFIG.model)


def overlap_inputs():
    """What overlap reads besides the answers: an index of the corpus, or the tokenizer of the server's index."""
    overlap = CONFIG.labels.overlap
    if overlap.kind == "local":
        return {"index": f"results/{RUN}/corpus_index"}
    own = f"{MODELS_FOLDER}/{BASE_MODEL}"
    return {"tokenizer": overlap.infinigram.tokenizer or own}


def growing(amount, *models):
    """A resource that grows with each attempt, for jobs that were killed for taking more.

    For memory, in MB, twice the size of the files of the inputs `models` is added, because models pass through a job's
    memory, perhaps in float32, on their way to a GPU. A model that is not fetched yet, as in a dry run, counts as zero.
    """

    def grown(wildcards, input, attempt):
        there = [model for model in models if model in input.keys()]
        files = [file for model in there for file in Path(input[model]).glob("*")]
        size = sum(file.stat().st_size for file in files) / 1e6
        return attempt * round(amount + 2 * size)

    return grown


def refuse_running_twice():
    """Stop before starting jobs that are still running, such as those of a killed Snakemake, in SLURM or here."""
    jobs = list(workflow.dag.needrun_jobs())
    targets = [
        target
        for job in jobs
        for target in encode_target_jobs_cli_args(job.get_target_spec())
    ]
    try:
        refuse_duplicates(Path(workflow.workdir_init), targets)
        # With --nolock, the job itself waits for the other one.
        if workflow.execution_settings.lock:
            refuse_living_jobs(log for job in jobs for log in job.log)
    except UserError as error:
        raise WorkflowError(str(error)) from None
