# Policies, language models that were trained further: sampled on a slice of the prompts, in the formats of others.


POLICY_SAMPLES = expand(
    f"results/{RUN}/policy_samples/{{policy}}/{{output}}",
    policy=POLICIES,
    output=["samples.parquet", "formats", "provenance.json"],
)


rule slice_policy_prompts:
    input:
        prompts="results/{run}/prompts.parquet",
    output:
        prompts="results/{run}/policy_samples/prompts.parquet",
        heuristics="results/{run}/policy_samples/heuristics.parquet",
    log:
        "logs/{run}/slice_policy_prompts.log",
    benchmark:
        "benchmarks/{run}/slice_policy_prompts.tsv"
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
        prompts="results/{run}/policy_samples/prompts.parquet",
        heuristics="results/{run}/policy_samples/heuristics.parquet",
        samplers=POLICY_SAMPLERS,
        model="results/{run}/models/{policy}",
    output:
        # Kept when it is made again: samples that the change does not touch are taken over.
        update("results/{run}/policy_samples/{policy}/shards/shard={shard}.parquet"),
    log:
        "logs/{run}/sample_policy/{policy}/shard={shard}.log",
    benchmark:
        "benchmarks/{run}/sample_policy/{policy}/shard={shard}.tsv"
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
        prompts="results/{run}/policy_samples/prompts.parquet",
        heuristics="results/{run}/policy_samples/heuristics.parquet",
        shards=expand(
            "results/{{run}}/policy_samples/{{policy}}/shards/shard={shard}.parquet",
            shard=range(CONFIG.policy_samples.shards),
        ),
    output:
        candidates="results/{run}/policy_samples/{policy}/candidates.parquet",
        report="results/{run}/policy_samples/{policy}/candidates_report.json",
    log:
        "logs/{run}/verify_policy_samples/{policy}.log",
    benchmark:
        "benchmarks/{run}/verify_policy_samples/{policy}.tsv"
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
        prompts="results/{run}/policy_samples/prompts.parquet",
        candidates="results/{run}/policy_samples/{policy}/candidates.parquet",
        model="results/{run}/models/{policy}",
    output:
        samples="results/{run}/policy_samples/{policy}/samples.parquet",
        formats=directory("results/{run}/policy_samples/{policy}/formats"),
        provenance="results/{run}/policy_samples/{policy}/provenance.json",
    log:
        "logs/{run}/gather_policy_samples/{policy}.log",
    benchmark:
        "benchmarks/{run}/gather_policy_samples/{policy}.tsv"
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
