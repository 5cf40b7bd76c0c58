# On-policy training: a learned sampler goes on learning from answers of its own, the target `on_policy`.

ON_POLICY_FILES = [f"results/{RUN}/on_policy/{CONFIG.on_policy.sampler or SAMPLERS[0]}"]


rule train_on_policy:
    input:
        prompts=results("prompts.parquet"),
        sampler=results("samplers/{architecture}/{lesson}"),
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
    output:
        directory(results("on_policy/{architecture}/{lesson}")),
    log:
        logs("train_on_policy/{architecture}/{lesson}"),
    benchmark:
        benchmarks("train_on_policy/{architecture}/{lesson}")
    wildcard_constraints:
        lesson="|".join(map(re.escape, lesson_names(CONFIG))),
    conda:
        GENERATION_ENVIRONMENT
    threads: 2
    resources:
        # The model that reads answers needs one where a server on other machines writes them.
        gpu=max(GENERATION_GPUS, GPUS),
        mem_mb=growing(8000, "model"),
        runtime=growing(720),
    params:
        **stage("train_on_policy"),
    message:
        "Training {wildcards.architecture}/{wildcards.lesson} on answers of its own"
    script:
        "../scripts/train_on_policy.py"
