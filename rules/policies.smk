# Policies, language models that were trained further: sampled on a slice of the prompts, exported for other tools.


POLICY_SAMPLES = expand(
    f"results/{RUN}/policy_samples/{{policy}}/{{output}}",
    policy=POLICIES,
    output=["samples.parquet", "formats", "provenance.json"],
)


rule slice_policy_prompts:
    input:
        prompts=results("prompts.parquet"),
    output:
        prompts=results("policy_samples/prompts.parquet"),
        heuristics=results("policy_samples/heuristics.parquet"),
    log:
        logs("slice_policy_prompts"),
    benchmark:
        benchmarks("slice_policy_prompts")
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("slice_prompts"),
    message:
        "Choosing the prompts that policies answer"
    script:
        "../scripts/slice_prompts.py"


rule sample_policy:
    input:
        prompts=results("policy_samples/prompts.parquet"),
        heuristics=results("policy_samples/heuristics.parquet"),
        samplers=POLICY_SAMPLERS,
        model=f"{MODELS_FOLDER}/{{policy}}",
    output:
        # Kept when it is made again: samples that the change does not affect are reused.
        update(results("policy_samples/{policy}/shards/shard={shard}.parquet")),
    log:
        logs("sample_policy/{policy}/shard={shard}"),
    benchmark:
        benchmarks("sample_policy/{policy}/shard={shard}")
    conda:
        GENERATION_ENVIRONMENT
    threads: 1
    resources:
        gpu=GENERATION_GPUS,
        mem_mb=growing(6000, "model"),
        runtime=growing(120),
    params:
        **stage("sample_policy", sampled_policies()),
    message:
        "Sampling the policy {wildcards.policy}, shard {wildcards.shard}"
    script:
        "../scripts/sample_policy.py"


rule verify_policy_samples:
    input:
        prompts=results("policy_samples/prompts.parquet"),
        heuristics=results("policy_samples/heuristics.parquet"),
        shards=expand(
            results("policy_samples/{policy}/shards/shard={shard}.parquet"),
            shard=range(CONFIG.policy_samples.shards),
            allow_missing=True,
        ),
    output:
        candidates=results("policy_samples/{policy}/candidates.parquet"),
        report=results("policy_samples/{policy}/candidates_report.json"),
    log:
        logs("verify_policy_samples/{policy}"),
    benchmark:
        benchmarks("verify_policy_samples/{policy}")
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        **stage("verify_policy_samples"),
    message:
        "Checking that {wildcards.policy} answered every prompt"
    script:
        "../scripts/verify_policy_samples.py"


rule gather_policy_samples:
    input:
        prompts=results("policy_samples/prompts.parquet"),
        candidates=results("policy_samples/{policy}/candidates.parquet"),
        model=f"{MODELS_FOLDER}/{{policy}}",
    output:
        samples=results("policy_samples/{policy}/samples.parquet"),
        formats=directory(results("policy_samples/{policy}/formats")),
        provenance=results("policy_samples/{policy}/provenance.json"),
    log:
        logs("gather_policy_samples/{policy}"),
    benchmark:
        benchmarks("gather_policy_samples/{policy}")
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=growing(30),
    params:
        **stage("sample_policy", sampled_policies()),
        format_version=STAGE_VERSIONS["gather_policy_samples"],
    message:
        "Writing the samples of {wildcards.policy} in all formats"
    script:
        "../scripts/gather_policy_samples.py"
