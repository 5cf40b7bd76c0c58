# Iterative alignment: iteration r samples the policy of iteration r - 1 on its own prompts, judges, pairs and trains.


# The iteration's answers as a tournament between the samples of each prompt. If the judge uses log-probabilities, they
# are the base model's, not those of the policy that made the answers.
JUDGED = (
    f"{ITERATION_OF}/{'scored' if JUDGE_READS_LIKELIHOOD else 'contestants'}.parquet"
)


localrules:
    plan_iterations,
    slice_iteration_prompts,
    gather_iteration_quality,
    adopt_policy,
    summarize_iterations,


# The number of prompts limits the number of iterations, so the DAG is evaluated again after this.
checkpoint plan_iterations:
    input:
        prompts=results("prompts.parquet"),
    output:
        results("iteration/plan.json"),
    log:
        logs("plan_iterations"),
    benchmark:
        benchmarks("plan_iterations")
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("plan_iterations"),
    message:
        "Counting the prompts for iterations"
    script:
        "../scripts/plan_iterations.py"


use rule slice_policy_prompts as slice_iteration_prompts with:
    output:
        prompts=f"{ITERATION_OF}/prompts.parquet",
        heuristics=f"{ITERATION_OF}/sampling.parquet",
    log:
        logs("slice_iteration_prompts/iteration={iteration}"),
    benchmark:
        benchmarks("slice_iteration_prompts/iteration={iteration}")
    params:
        **stage("slice_prompts", prompts_of_iteration),
    message:
        "Choosing the prompts of iteration {wildcards.iteration}"


use rule sample_policy as sample_iteration with:
    input:
        prompts=f"{ITERATION_OF}/prompts.parquet",
        heuristics=f"{ITERATION_OF}/sampling.parquet",
        samplers=POLICY_SAMPLERS,
        model=policy_before,
    output:
        # Kept when it is made again: samples that the change does not affect are reused.
        update(f"{ITERATION_OF}/shards/shard={{shard}}.parquet"),
    log:
        logs("sample_iteration/iteration={iteration}/shard={shard}"),
    benchmark:
        benchmarks("sample_iteration/iteration={iteration}/shard={shard}")
    params:
        **stage("sample_policy", sampled_policies(CONFIG.iteration.samples)),
    message:
        "Iteration {wildcards.iteration}: sampling the policy, shard {wildcards.shard}"


rule gather_iteration:
    input:
        prompts=f"{ITERATION_OF}/prompts.parquet",
        heuristics=f"{ITERATION_OF}/sampling.parquet",
        shards=expand(
            results("iteration/iteration={iteration}/shards/shard={shard}.parquet"),
            shard=range(CONFIG.policy_samples.shards),
            allow_missing=True,
        ),
    output:
        contestants=f"{ITERATION_OF}/contestants.parquet",
        heuristics=f"{ITERATION_OF}/heuristics.parquet",
        report=f"{ITERATION_OF}/candidates_report.json",
    log:
        logs("gather_iteration/iteration={iteration}"),
    benchmark:
        benchmarks("gather_iteration/iteration={iteration}")
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        **stage("gather_iteration"),
        verification_version=STAGE_VERSIONS["verify_candidates"],
    message:
        "Iteration {wildcards.iteration}: checking that every prompt was answered"
    script:
        "../scripts/gather_iteration.py"


rule score_iteration:
    input:
        candidates=f"{ITERATION_OF}/contestants.parquet",
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
        policy=policy_before,
    output:
        f"{ITERATION_OF}/scored.parquet",
    log:
        logs("score_iteration/iteration={iteration}"),
    benchmark:
        benchmarks("score_iteration/iteration={iteration}")
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=growing(6000, "model"),
        runtime=growing(120),
    params:
        **stage("score_iteration"),
    message:
        "Iteration {wildcards.iteration}: reading the samples with the base model, for the judge"
    script:
        "../scripts/score_iteration.py"


use rule embed_candidates as embed_iteration with:
    input:
        prompts=f"{ITERATION_OF}/prompts.parquet",
        candidates=JUDGED,
        embedder=f"{MODELS_FOLDER}/{EMBEDDER}",
    output:
        f"{ITERATION_OF}/embeddings.parquet",
    log:
        logs("embed_iteration/iteration={iteration}"),
    benchmark:
        benchmarks("embed_iteration/iteration={iteration}")
    message:
        "Iteration {wildcards.iteration}: embedding samples"


use rule label_quality as label_iteration_quality with:
    input:
        **judge_inputs(JUDGE, "iteration/iteration={iteration}/"),
        prompts=f"{ITERATION_OF}/prompts.parquet",
        candidates=JUDGED,
    output:
        labels=f"{ITERATION_OF}/labels/quality/shard={{shard}}.parquet",
        report=f"{ITERATION_OF}/labels/quality/shard={{shard}}.json",
    log:
        logs("label_iteration_quality/iteration={iteration}/shard={shard}"),
    benchmark:
        benchmarks("label_iteration_quality/iteration={iteration}/shard={shard}")
    message:
        "Iteration {wildcards.iteration}: judging samples, shard {wildcards.shard}"


use rule gather_quality as gather_iteration_quality with:
    input:
        labels=expand(
            results(
                "iteration/iteration={iteration}/labels/quality/shard={shard}.parquet"
            ),
            shard=JUDGE_SHARDS,
            allow_missing=True,
        ),
        reports=expand(
            results(
                "iteration/iteration={iteration}/labels/quality/shard={shard}.json"
            ),
            shard=JUDGE_SHARDS,
            allow_missing=True,
        ),
    output:
        labels=f"{ITERATION_OF}/labels/quality.parquet",
        report=f"{ITERATION_OF}/labels/quality_report.json",
    log:
        logs("gather_iteration_quality/iteration={iteration}"),
    benchmark:
        benchmarks("gather_iteration_quality/iteration={iteration}")
    message:
        "Iteration {wildcards.iteration}: gathering the ratings of all shards"


use rule label_correctness as label_iteration_correctness with:
    input:
        prompts=f"{ITERATION_OF}/prompts.parquet",
        candidates=f"{ITERATION_OF}/contestants.parquet",
        verifiers=OWN_VERIFIERS,
    output:
        labels=f"{ITERATION_OF}/labels/correctness.parquet",
    log:
        logs("label_iteration_correctness/iteration={iteration}"),
    benchmark:
        benchmarks("label_iteration_correctness/iteration={iteration}")
    message:
        "Iteration {wildcards.iteration}: verifying samples"


rule pair_iteration:
    input:
        prompts=f"{ITERATION_OF}/prompts.parquet",
        run_prompts=results("prompts.parquet"),
        heuristics=f"{ITERATION_OF}/heuristics.parquet",
        candidates=f"{ITERATION_OF}/contestants.parquet",
        quality=f"{ITERATION_OF}/labels/quality.parquet",
        correctness=f"{ITERATION_OF}/labels/correctness.parquet",
        evaluations=CONFIG.preferences.decontamination.files,
    output:
        pairs=f"{ITERATION_OF}/preferences/pairs.parquet",
        answers=f"{ITERATION_OF}/preferences/answers.parquet",
        dropped=f"{ITERATION_OF}/preferences/dropped.jsonl",
        report=f"{ITERATION_OF}/preferences/report.json",
        data=TRAINING_DATA,
    log:
        logs("pair_iteration/iteration={iteration}"),
    benchmark:
        benchmarks("pair_iteration/iteration={iteration}")
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        **stage("pair_iteration"),
        format_version=STAGE_VERSIONS["export_preferences"],
    message:
        "Iteration {wildcards.iteration}: pairing samples"
    script:
        "../scripts/pair_iteration.py"


rule train_policy:
    input:
        data=TRAINING_DATA,
        model=policy_before,
        reference=FIRST_POLICY,
        files=ITERATION.files,
    output:
        directory(f"{ITERATION_OF}/checkpoint"),
    log:
        logs("train_policy/iteration={iteration}"),
        training=logs("train_policy/iteration={iteration}.training"),
    benchmark:
        benchmarks("train_policy/iteration={iteration}")
    conda:
        "../envs/language_model.yaml"
    threads: 2
    resources:
        gpu=GPUS,
        mem_mb=growing(8000, "model"),
        runtime=growing(600),
    params:
        **stage("train_policy"),
    message:
        "Iteration {wildcards.iteration}: training the policy"
    script:
        "../scripts/train_policy.py"


rule adopt_policy:
    input:
        checkpoint=f"{ITERATION_OF}/checkpoint",
        model=policy_before,
    output:
        directory(f"{ITERATION_OF}/policy"),
    log:
        logs("adopt_policy/iteration={iteration}"),
    benchmark:
        benchmarks("adopt_policy/iteration={iteration}")
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000, "checkpoint", "model"),
        runtime=growing(60),
    message:
        "Iteration {wildcards.iteration}: making what was trained the next policy"
    script:
        "../scripts/adopt_policy.py"


rule summarize_iterations:
    input:
        plan=results("iteration/plan.json"),
        iterations=lambda wildcards: [
            f"{folder}/policy" for folder in planned_iterations(wildcards)
        ],
    output:
        results("iteration/summary.json"),
    log:
        logs("summarize_iterations"),
    benchmark:
        benchmarks("summarize_iterations")
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    message:
        "Summarizing the iterations"
    script:
        "../scripts/summarize_iterations.py"
