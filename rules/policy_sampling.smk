# Helpers only: how policies are sampled, and what iterations of policies and of samplers start from.

from adaptive_samplers.files import read_json


def learned_folders(*chains):
    """Folders of the learned samplers among the steps of chains."""
    pipelines = map(configured_pipeline, chains)
    return [
        step.folder
        for pipeline in pipelines
        for step in pipeline
        if step.name == "learned"
    ]


# Folders of learned samplers that policies are sampled with.
POLICY_SAMPLERS = learned_folders(CONFIG.policy_samples.sampling)


def sampled_policies(samples=None):
    """The config in which `policy_samples` says how answers are generated, with this many samples per prompt."""
    own = config["policy_samples"]
    generation = config["generation"] | {
        key: own[key] for key in ("max_new_tokens", "stop") if own[key] is not None
    }
    own = own | {"samples": own["samples"] if samples is None else samples}
    return config | {"generation": generation, "policy_samples": own}


# Iterations of training: where their files are, and what the first one starts from.
ITERATION_OF = results("iteration/iteration={iteration}")
ITERATION = CONFIG.iteration
TRAINING_DATA = f"{ITERATION_OF}/preferences/{preference_file(ITERATION.format)}"
FIRST_POLICY = f"{MODELS_FOLDER}/{ITERATION.policy or BASE_MODEL}"


def policy_before(wildcards):
    """The model folder that an iteration samples and trains."""
    number = int(wildcards.iteration)
    if number == 1:
        return FIRST_POLICY
    return results(f"iteration/iteration={number - 1}/policy").format(**wildcards)


def prompts_of_iteration(wildcards):
    """The config in which `policy_samples` takes the prompts of an iteration."""
    size = ITERATION.prompts_per_iteration
    own = config["policy_samples"] | {
        "splits": ITERATION.splits,
        "skip": ITERATION.skip + (int(wildcards.iteration) - 1) * size,
        "limit": size,
    }
    return config | {"policy_samples": own}


def planned_iterations(wildcards):
    """The folders of all iterations, known once the prompts are counted."""
    plan = checkpoints.plan_iterations.get(run=RUN, sampler_generation="").output[0]
    return [
        f"results/{RUN}/iteration/iteration={one['iteration']}"
        for one in read_json(plan)["iterations"]
    ]


def iteration_summary(wildcards):
    """What the target `iterations` asks for."""
    if ITERATION.command is None:
        raise WorkflowError(
            "iteration.command is null: nothing says how a policy is trained. docs/iteration.md tells what the command "
            "is given and must leave"
        )
    return f"results/{RUN}/iteration/summary.json"


# Generations of learned samplers: what a later one takes from the previous one.
SAMPLERS_THAT_COMPETE = CONFIG.sampler_generations.samplers or SAMPLERS
# Folders of learned samplers among the heuristics of the config.
CONFIGURED_SAMPLERS = learned_folders(
    *CONFIG.heuristics.pipelines,
    CONFIG.heuristics.official.steps,
    *(entry.pipeline for entry in CONFIG.heuristics.verbalized),
)


def of_generation_before(wildcards, path):
    """The same file of the previous generation of samplers, in a list that is empty for the first."""
    if not wildcards.sampler_generation:
        return []
    place = SAMPLER_GENERATIONS.index(wildcards.sampler_generation)
    return [f"results/{RUN}/{SAMPLER_GENERATIONS[place - 1]}{path}"]


def earlier_samplers(wildcards):
    """Folders of the learned samplers that join the heuristics of a later generation."""
    place = SAMPLER_GENERATIONS.index(wildcards.sampler_generation)
    first = 0 if CONFIG.sampler_generations.keep_earlier else max(place - 1, 0)
    return [
        f"results/{RUN}/{generation}samplers/{sampler}"
        for generation in SAMPLER_GENERATIONS[first:place]
        for sampler in SAMPLERS_THAT_COMPETE
    ]


def competing_samplers(wildcards):
    """Folders of all learned samplers among the heuristics."""
    return [*CONFIGURED_SAMPLERS, *earlier_samplers(wildcards)]


def answers_of_generation_before(wildcards):
    """The same shard's answers in the previous generation, which are reused."""
    path = f"candidates/seed={wildcards.seed}/shard={wildcards.shard}.parquet"
    return of_generation_before(wildcards, path)


def draws_of_generation_before(wildcards):
    """What the same shard's answers drew in the previous generation, which is reused."""
    return of_generation_before(wildcards, f"draws/shard={wildcards.shard}.safetensors")


def generated_draws_of_generation_before(wildcards):
    """What the same shard's answers drew as they were generated in the previous generation, if it was recorded."""
    path = f"generation_draws/seed={wildcards.seed}/shard={wildcards.shard}.safetensors"
    return of_generation_before(wildcards, path) if RECORDED_SEEDS else []


def sampler_to_go_on_from(wildcards):
    """The sampler of the previous generation, for an objective that is trained in rounds."""
    name = f"{wildcards.architecture}/{wildcards.weights}{wildcards.objective}"
    is_one = name in SAMPLERS_IN_ROUNDS
    return of_generation_before(wildcards, f"samplers/{name}") if is_one else []


def heuristics_of_generation(wildcards):
    """The config with samplers of earlier generations among the pipelines."""
    folders = earlier_samplers(wildcards)
    own = config["heuristics"]
    pipelines = own["pipelines"] + [[{"learned": folder}] for folder in folders]
    return config | {"heuristics": own | {"pipelines": pipelines}}
