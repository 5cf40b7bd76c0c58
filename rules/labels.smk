# Labels: one rule and one table each, all independent of each other.


rule train_judge:
    input:
        pairs=lambda wildcards: JUDGES[wildcards.judge].pairs,
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
        embedder=f"{MODELS_FOLDER}/{EMBEDDER}",
    output:
        judge=results("judge/{judge}/judge.json"),
        report=results("judge/{judge}/report.json"),
    log:
        logs("train_judge/{judge}"),
    benchmark:
        benchmarks("train_judge/{judge}")
    wildcard_constraints:
        judge="|".join(map(re.escape, TRAINED_JUDGES)),
    conda:
        "../envs/labels.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=growing(6000, "model"),
        runtime=growing(30),
    params:
        **stage("train_judge", judged_by_wildcard),
    message:
        "Training the judge {wildcards.judge} on {input.pairs}"
    script:
        "../scripts/train_judge.py"


rule embed_candidates:
    input:
        prompts=results("prompts.parquet"),
        candidates=results("candidates.parquet"),
        embedder=f"{MODELS_FOLDER}/{EMBEDDER}",
    output:
        results("embeddings.parquet"),
    log:
        logs("embed_candidates"),
    benchmark:
        benchmarks("embed_candidates")
    conda:
        "../envs/labels.yaml"
    threads: 1
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
        prompts=results("prompts.parquet"),
        candidates=results("candidates.parquet"),
    output:
        labels=results("labels/quality/shard={shard}.parquet"),
        report=results("labels/quality/shard={shard}.json"),
    log:
        logs("label_quality/shard={shard}"),
    benchmark:
        benchmarks("label_quality/shard={shard}")
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
        labels=results(f"labels/{GATHERED}.parquet"),
        report=results(f"labels/{GATHERED}_report.json"),
    log:
        logs(f"gather_{GATHERED}"),
    benchmark:
        benchmarks(f"gather_{GATHERED}")
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
            prompts=results("prompts.parquet"),
            candidates=results("candidates.parquet"),
        output:
            labels=results("labels/quality/{judge}/shard={shard}.parquet"),
            report=results("labels/quality/{judge}/shard={shard}.json"),
        log:
            logs("label_quality_by_others/{judge}/shard={shard}"),
        benchmark:
            benchmarks("label_quality_by_others/{judge}/shard={shard}")
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
                results("labels/quality/{judge}.parquet"),
                judge=JUDGES,
                allow_missing=True,
            ),
            reports=expand(
                results("labels/quality/{judge}_report.json"),
                judge=JUDGES,
                allow_missing=True,
            ),
        output:
            labels=results("labels/quality.parquet"),
            report=results("labels/quality_report.json"),
        log:
            logs("combine_quality"),
        benchmark:
            benchmarks("combine_quality")
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
        candidates=results("candidates.parquet"),
        embeddings=results("embeddings.parquet"),
    output:
        labels=results("labels/diversity.parquet"),
        report=results("labels/diversity_report.json"),
    log:
        logs("label_diversity"),
    benchmark:
        benchmarks("label_diversity")
    conda:
        "../envs/labels.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
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
        prompts=results("prompts.parquet"),
        candidates=results("candidates.parquet"),
        verifiers=OWN_VERIFIERS,
    output:
        labels=results("labels/correctness.parquet"),
    log:
        logs("label_correctness"),
    benchmark:
        benchmarks("label_correctness")
    conda:
        "../envs/labels.yaml"
    threads: 2
    resources:
        mem_mb=growing(4000),
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
        directory(results("corpus_index")),
    log:
        logs("index_corpus"),
    benchmark:
        benchmarks("index_corpus")
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
        candidates=results("candidates.parquet"),
    output:
        labels=results("labels/overlap.parquet"),
        report=results("labels/overlap_report.json"),
    log:
        logs("label_overlap"),
    benchmark:
        benchmarks("label_overlap")
    conda:
        "../envs/labels.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        **stage("label_overlap"),
    message:
        "Tracing answers to the corpus"
    script:
        "../scripts/label_overlap.py"
