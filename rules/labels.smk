# Labels: one rule and one table each, side by side, never in a chain.


rule train_judge:
    input:
        pairs=TRAINED_JUDGE.pairs if TRAINED_JUDGE else [],
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
        embedder=f"{MODELS_FOLDER}/{EMBEDDER}",
    output:
        judge="results/{run}/judge/judge.json",
        report="results/{run}/judge/report.json",
    log:
        "logs/{run}/train_judge.log",
    benchmark:
        "benchmarks/{run}/train_judge.tsv"
    conda:
        "../envs/labels.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=growing(6000, "model"),
        runtime=growing(30),
    params:
        **stage("train_judge", judged_by_the_trained_one()),
    message:
        "Training the judge on {input.pairs}"
    script:
        "../scripts/train_judge.py"


rule embed_candidates:
    input:
        prompts="results/{run}/prompts.parquet",
        candidates="results/{run}/candidates.parquet",
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
        embedder=f"{MODELS_FOLDER}/{EMBEDDER}",
    output:
        "results/{run}/embeddings.parquet",
    log:
        "logs/{run}/embed_candidates.log",
    benchmark:
        "benchmarks/{run}/embed_candidates.tsv"
    conda:
        "../envs/labels.yaml"
    threads: 2
    resources:
        gpu=GPUS,
        mem_mb=growing(6000),
        runtime=growing(60),
    params:
        **stage("embed_candidates"),
    message:
        "Embedding answers and prompts"
    script:
        "../scripts/embed_candidates.py"


rule label_quality:
    input:
        **judge_inputs(JUDGE, ""),
        prompts="results/{run}/prompts.parquet",
        candidates="results/{run}/candidates.parquet",
    output:
        labels="results/{run}/labels/quality/shard={shard}.parquet",
        report="results/{run}/labels/quality/shard={shard}.json",
    log:
        "logs/{run}/label_quality/shard={shard}.log",
    benchmark:
        "benchmarks/{run}/label_quality/shard={shard}.tsv"
    conda:
        JUDGE_ENVIRONMENT
    threads: 1
    resources:
        gpu=judge_gpus(JUDGE),
        mem_mb=growing(6000, "judge_model"),
        runtime=growing(120),
    params:
        **stage("label_quality"),
    message:
        "Judging answers in a tournament for each prompt and seed, shard {wildcards.shard}"
    script:
        "../scripts/label_quality.py"


rule gather_quality:
    input:
        labels=judged_shards("", ".parquet"),
        reports=judged_shards("", ".json"),
    output:
        labels=f"results/{{run}}/labels/{GATHERED}.parquet",
        report=f"results/{{run}}/labels/{GATHERED}_report.json",
    log:
        f"logs/{{run}}/gather_{GATHERED}.log",
    benchmark:
        f"benchmarks/{{run}}/gather_{GATHERED}.tsv"
    conda:
        "../envs/labels.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    message:
        "Gathering the ratings of all shards"
    script:
        "../scripts/gather_quality.py"


if OTHER_JUDGES:

    use rule label_quality as label_quality_by_others with:
        input:
            unpack(inputs_of_judge("")),
            prompts="results/{run}/prompts.parquet",
            candidates="results/{run}/candidates.parquet",
        output:
            labels="results/{run}/labels/quality/{judge}/shard={shard}.parquet",
            report="results/{run}/labels/quality/{judge}/shard={shard}.json",
        log:
            "logs/{run}/label_quality_by_others/{judge}/shard={shard}.log",
        benchmark:
            "benchmarks/{run}/label_quality_by_others/{judge}/shard={shard}.tsv"
        conda:
            environment_of_judge
        resources:
            gpu=lambda wildcards: judge_gpus(JUDGES[wildcards.judge]),
            mem_mb=growing(6000, "judge_model"),
            runtime=growing(120),
        params:
            **stage("label_quality", judged_by_wildcard),
        message:
            "Judging answers by {wildcards.judge}, shard {wildcards.shard}"

    rule combine_quality:
        input:
            labels=expand(
                "results/{{run}}/labels/quality/{judge}.parquet", judge=JUDGES
            ),
            reports=expand(
                "results/{{run}}/labels/quality/{judge}_report.json", judge=JUDGES
            ),
        output:
            labels="results/{run}/labels/quality.parquet",
            report="results/{run}/labels/quality_report.json",
        log:
            "logs/{run}/combine_quality.log",
        benchmark:
            "benchmarks/{run}/combine_quality.tsv"
        conda:
            "../envs/labels.yaml"
        threads: 1
        resources:
            mem_mb=growing(2000),
            runtime=growing(30),
        params:
            **stage("combine_quality"),
            judges=list(JUDGES),
        message:
            "Comparing the ratings of all judges"
        script:
            "../scripts/combine_quality.py"


rule label_diversity:
    input:
        candidates="results/{run}/candidates.parquet",
        embeddings="results/{run}/embeddings.parquet",
    output:
        labels="results/{run}/labels/diversity.parquet",
        report="results/{run}/labels/diversity_report.json",
    log:
        "logs/{run}/label_diversity.log",
    benchmark:
        "benchmarks/{run}/label_diversity.tsv"
    conda:
        "../envs/labels.yaml"
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=growing(60),
    params:
        **stage("label_diversity"),
    message:
        "Measuring the diversity of answers across seeds"
    script:
        "../scripts/label_diversity.py"


# Files of the user's own verifiers.
OWN_VERIFIERS = [own.path for own in CONFIG.labels.correctness.verifiers]


rule label_correctness:
    input:
        prompts="results/{run}/prompts.parquet",
        candidates="results/{run}/candidates.parquet",
        verifiers=OWN_VERIFIERS,
    output:
        labels="results/{run}/labels/correctness.parquet",
    log:
        "logs/{run}/label_correctness.log",
    benchmark:
        "benchmarks/{run}/label_correctness.tsv"
    conda:
        "../envs/labels.yaml"
    threads: 2
    resources:
        mem_mb=growing(6000),
        runtime=growing(60),
    params:
        **stage("label_correctness"),
        verifiers=[file_sha256(path) for path in OWN_VERIFIERS],
    message:
        "Verifying answers"
    script:
        "../scripts/label_correctness.py"


rule index_corpus:
    input:
        corpus=CONFIG.labels.overlap.corpus,
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
    output:
        directory("results/{run}/corpus_index"),
    log:
        "logs/{run}/index_corpus.log",
    benchmark:
        "benchmarks/{run}/index_corpus.tsv"
    conda:
        "../envs/labels.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        **stage("index_corpus"),
    message:
        "Indexing the corpus {input.corpus}"
    script:
        "../scripts/index_corpus.py"


rule label_overlap:
    input:
        **overlap_inputs(),
        candidates="results/{run}/candidates.parquet",
    output:
        labels="results/{run}/labels/overlap.parquet",
        report="results/{run}/labels/overlap_report.json",
    log:
        "logs/{run}/label_overlap.log",
    benchmark:
        "benchmarks/{run}/label_overlap.tsv"
    conda:
        "../envs/labels.yaml"
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=growing(60),
    params:
        **stage("label_overlap"),
    message:
        "Tracing answers to the corpus"
    script:
        "../scripts/label_overlap.py"
