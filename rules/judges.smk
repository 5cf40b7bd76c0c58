# Helpers only: what a judge reads, where it works, and what its ratings depend on.


def is_served(judge):
    """Whether a judge's model runs in SGLang."""
    return judge.get("engine") == "sglang"


def judge_gpus(judge):
    """GPUs of a job in which a judge works; one that is trained reads features, one behind an endpoint asks."""
    if judge.get("device", "cpu") == "cpu":
        return 0
    return sglang_gpus(judge["sglang"]) if is_served(judge) else 1


if is_served(JUDGE):
    JUDGE_ENVIRONMENT = "../envs/sglang.yaml"
else:
    JUDGE_ENVIRONMENT = "../envs/labels.yaml"


def environment_of_judge(wildcards):
    """The environment of a job in which a judge named by a wildcard works."""
    served = is_served(JUDGES[wildcards.judge])
    return "../envs/sglang.yaml" if served else "../envs/labels.yaml"


def judge_inputs(judge, part):
    """What judging reads beside prompts and answers, for the answers of one part of the run."""
    if judge["kind"] == "feature_reward":
        return {
            "embeddings": f"results/{{run}}/{part}embeddings.parquet",
            "model": f"{MODELS_FOLDER}/{BASE_MODEL}",
            "judge": f"results/{RUN}/judge/judge.json",
        }
    if "source" not in judge:
        return {}
    return {"judge_model": f"{MODELS_FOLDER}/{judge['name']}"}


def inputs_of_judge(part):
    """An input function: what a judge named by a wildcard reads beside prompts and answers."""
    return lambda wildcards: {
        name: path.format(run=wildcards.run)
        for name, path in judge_inputs(JUDGES[wildcards.judge], part).items()
    }


def judge_stage(name=None):
    """Params of a judge's tournament; its outcomes depend on these keys, and on the files of a model."""
    judge = JUDGES[name] if name else JUDGE
    keys = "kind engine dtype max_length template labels order weights model top_logprobs max_tokens request"
    return stage(
        "label_quality",
        "run.seed",
        "labels.quality.shards",
        "labels.quality.tournament",
        "labels.quality.tolerance",
        *(
            f"labels.quality.judge.{key}"
            for key in keys.split()
            if key in judge and judge["kind"] != "feature_reward"
        ),
        judge=name,
    )


def judged_shards(part, suffix):
    """An input function: what the jobs of a judge wrote; of the first one, where no wildcard names one."""

    def shards(wildcards):
        named = wildcards.get("judge", judge_name(JUDGE))
        folder = f"{named}/" if named in OTHER_JUDGES else ""
        return expand(
            f"results/{{run}}/{part}labels/quality/{folder}shard={{shard}}{suffix}",
            run=wildcards.run,
            shard=JUDGE_SHARDS,
        )

    return shards
