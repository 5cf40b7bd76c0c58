# Helpers only: what a judge reads, where it runs, and what its ratings depend on.


def judge_gpus(judge):
    """GPUs of a job that runs a judge; a judge without its own model needs none."""
    if not JUDGE_KINDS[judge.kind].has_model:
        return 0
    return ENGINES[judge.engine].gpus_of(judge, judge.device)


def judge_environment(judge):
    """The environment of a job that runs a judge."""
    if not JUDGE_KINDS[judge.kind].has_model:
        return "../envs/labels.yaml"
    return f"../envs/{ENGINES[judge.engine].for_judges.environment}.yaml"


JUDGE_ENVIRONMENT = judge_environment(JUDGE)


def environment_of_judge(wildcards):
    """The environment of a job that runs the judge named by a wildcard."""
    return judge_environment(JUDGES[wildcards.judge])


def judge_inputs(judge, part):
    """What judging reads besides prompts and answers, for the answers of one part of the run."""
    paths = {
        "embeddings": results(f"{part}embeddings.parquet"),
        "model": f"{MODELS_FOLDER}/{BASE_MODEL}",
        "judge": f"results/{RUN}/judge/{judge_name(judge)}/judge.json",
        "judge_model": f"{MODELS_FOLDER}/{judge_name(judge)}",
    }
    return {name: paths[name] for name in JUDGE_KINDS[judge.kind].inputs}


def inputs_of_judge(part):
    """An input function: what the judge named by a wildcard reads besides prompts and answers."""
    return lambda wildcards: {
        name: path.format(**wildcards)
        for name, path in judge_inputs(JUDGES[wildcards.judge], part).items()
    }


def judged_by_wildcard(wildcards):
    """The config with the judge that a wildcard names as the only one."""
    return judged_by(config, wildcards.judge)


def judged_shards(part, suffix):
    """An input function: what the jobs of a judge wrote; the first judge if no wildcard names one."""

    def shards(wildcards):
        named = wildcards.get("judge", judge_name(JUDGE))
        folder = f"{named}/" if named in OTHER_JUDGES else ""
        return expand(
            results(f"{part}labels/quality/{folder}shard={{shard}}{suffix}"),
            **wildcards,
            shard=JUDGE_SHARDS,
        )

    return shards
