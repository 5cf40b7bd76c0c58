# Iterative alignment: round r samples the policy of round r - 1 on prompts of its own, judges, pairs and trains.


# The round's answers as a tournament between the samples of each prompt. Where the judge looks at log-probabilities,
# they are the base model's, not those of the policy that made the answers.
JUDGED = f"{ROUND}/{'scored' if JUDGE_IS_TRAINED else 'contestants'}.parquet"


localrules:
    plan_rounds,
    slice_round_prompts,
    gather_round_quality,
    adopt_policy,
    summarize_rounds,


# Rounds are needed only as far as there are prompts, so what is to be done is looked at again after this.
checkpoint plan_rounds:
    input:
        prompts=results("prompts.parquet"),
    output:
        results("iteration/plan.json"),
    log:
        logs("plan_rounds"),
    benchmark:
        benchmarks("plan_rounds")
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("plan_rounds"),
    message:
        "Counting the prompts for rounds"
    script:
        "../scripts/plan_rounds.py"


use rule slice_policy_prompts as slice_round_prompts with:
    output:
        prompts=f"{ROUND}/prompts.parquet",
        heuristics=f"{ROUND}/sampling.parquet",
    log:
        logs("slice_round_prompts/round={round}"),
    benchmark:
        benchmarks("slice_round_prompts/round={round}")
    params:
        **stage("slice_prompts", prompts_of_round),
    message:
        "Choosing the prompts of round {wildcards.round}"


use rule sample_policy as sample_round with:
    input:
        prompts=f"{ROUND}/prompts.parquet",
        heuristics=f"{ROUND}/sampling.parquet",
        samplers=POLICY_SAMPLERS,
        model=policy_before,
    output:
        # Kept when it is made again: samples that the change does not touch are taken over.
        update(f"{ROUND}/shards/shard={{shard}}.parquet"),
    log:
        logs("sample_round/round={round}/shard={shard}"),
    benchmark:
        benchmarks("sample_round/round={round}/shard={shard}")
    params:
        **stage("sample_policy", sampled_policies(CONFIG.iteration.samples)),
    message:
        "Round {wildcards.round}: sampling the policy, shard {wildcards.shard}"


rule gather_round:
    input:
        prompts=f"{ROUND}/prompts.parquet",
        heuristics=f"{ROUND}/sampling.parquet",
        shards=expand(
            results("iteration/round={round}/shards/shard={shard}.parquet"),
            shard=range(CONFIG.policy_samples.shards),
            allow_missing=True,
        ),
    output:
        contestants=f"{ROUND}/contestants.parquet",
        heuristics=f"{ROUND}/heuristics.parquet",
        report=f"{ROUND}/candidates_report.json",
    log:
        logs("gather_round/round={round}"),
    benchmark:
        benchmarks("gather_round/round={round}")
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        **stage("gather_round"),
        verification_version=STAGE_VERSIONS["verify_candidates"],
    message:
        "Round {wildcards.round}: checking that every prompt was answered"
    script:
        "../scripts/gather_round.py"


rule score_round:
    input:
        candidates=f"{ROUND}/contestants.parquet",
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
        policy=policy_before,
    output:
        f"{ROUND}/scored.parquet",
    log:
        logs("score_round/round={round}"),
    benchmark:
        benchmarks("score_round/round={round}")
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=growing(6000, "model"),
        runtime=growing(120),
    params:
        **stage("score_round"),
    message:
        "Round {wildcards.round}: reading the samples with the base model, for the judge"
    script:
        "../scripts/score_round.py"


use rule embed_candidates as embed_round with:
    input:
        prompts=f"{ROUND}/prompts.parquet",
        candidates=JUDGED,
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
        embedder=f"{MODELS_FOLDER}/{EMBEDDER}",
    output:
        f"{ROUND}/embeddings.parquet",
    log:
        logs("embed_round/round={round}"),
    benchmark:
        benchmarks("embed_round/round={round}")
    message:
        "Round {wildcards.round}: embedding samples"


use rule label_quality as label_round_quality with:
    input:
        **judge_inputs(JUDGE, "iteration/round={round}/"),
        prompts=f"{ROUND}/prompts.parquet",
        candidates=JUDGED,
    output:
        labels=f"{ROUND}/labels/quality/shard={{shard}}.parquet",
        report=f"{ROUND}/labels/quality/shard={{shard}}.json",
    log:
        logs("label_round_quality/round={round}/shard={shard}"),
    benchmark:
        benchmarks("label_round_quality/round={round}/shard={shard}")
    message:
        "Round {wildcards.round}: judging samples, shard {wildcards.shard}"


use rule gather_quality as gather_round_quality with:
    input:
        labels=expand(
            results("iteration/round={round}/labels/quality/shard={shard}.parquet"),
            shard=JUDGE_SHARDS,
            allow_missing=True,
        ),
        reports=expand(
            results("iteration/round={round}/labels/quality/shard={shard}.json"),
            shard=JUDGE_SHARDS,
            allow_missing=True,
        ),
    output:
        labels=f"{ROUND}/labels/quality.parquet",
        report=f"{ROUND}/labels/quality_report.json",
    log:
        logs("gather_round_quality/round={round}"),
    benchmark:
        benchmarks("gather_round_quality/round={round}")
    message:
        "Round {wildcards.round}: gathering the ratings of all shards"


use rule label_correctness as label_round_correctness with:
    input:
        prompts=f"{ROUND}/prompts.parquet",
        candidates=f"{ROUND}/contestants.parquet",
        verifiers=OWN_VERIFIERS,
    output:
        labels=f"{ROUND}/labels/correctness.parquet",
    log:
        logs("label_round_correctness/round={round}"),
    benchmark:
        benchmarks("label_round_correctness/round={round}")
    message:
        "Round {wildcards.round}: verifying samples"


rule pair_round:
    input:
        prompts=f"{ROUND}/prompts.parquet",
        run_prompts=results("prompts.parquet"),
        heuristics=f"{ROUND}/heuristics.parquet",
        candidates=f"{ROUND}/contestants.parquet",
        quality=f"{ROUND}/labels/quality.parquet",
        correctness=f"{ROUND}/labels/correctness.parquet",
        evaluations=CONFIG.preferences.decontamination.files,
    output:
        pairs=f"{ROUND}/preferences/pairs.parquet",
        answers=f"{ROUND}/preferences/answers.parquet",
        dropped=f"{ROUND}/preferences/dropped.jsonl",
        report=f"{ROUND}/preferences/report.json",
        data=TRAINING_DATA,
    log:
        logs("pair_round/round={round}"),
    benchmark:
        benchmarks("pair_round/round={round}")
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        **stage("pair_round"),
        format_version=STAGE_VERSIONS["export_preferences"],
    message:
        "Round {wildcards.round}: pairing samples"
    script:
        "../scripts/pair_round.py"


rule train_policy:
    input:
        data=TRAINING_DATA,
        model=policy_before,
        reference=FIRST_POLICY,
        files=ITERATION.files,
    output:
        directory(f"{ROUND}/checkpoint"),
    log:
        logs("train_policy/round={round}"),
        training=logs("train_policy/round={round}.training"),
    benchmark:
        benchmarks("train_policy/round={round}")
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
        "Round {wildcards.round}: training the policy"
    script:
        "../scripts/train_policy.py"


rule adopt_policy:
    input:
        checkpoint=f"{ROUND}/checkpoint",
        model=policy_before,
    output:
        directory(f"{ROUND}/policy"),
    log:
        logs("adopt_policy/round={round}"),
    benchmark:
        benchmarks("adopt_policy/round={round}")
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000, "checkpoint", "model"),
        runtime=growing(60),
    message:
        "Round {wildcards.round}: making what was trained the next policy"
    script:
        "../scripts/adopt_policy.py"


rule summarize_rounds:
    input:
        plan=results("iteration/plan.json"),
        rounds=lambda wildcards: [
            f"{folder}/policy" for folder in planned_rounds(wildcards)
        ],
    output:
        results("iteration/summary.json"),
    log:
        logs("summarize_rounds"),
    benchmark:
        benchmarks("summarize_rounds")
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    message:
        "Summarizing the rounds"
    script:
        "../scripts/summarize_rounds.py"
