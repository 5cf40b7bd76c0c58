# Labels: one rule and one table each, side by side, never in a chain.


# What label_quality takes for a judge that is a model, beside the model's files: its outcomes depend on these keys.
JUDGE_KEYS = [
    f"labels.quality.judge.{key}"
    for key in ("kind", "engine", "dtype", "max_length", "template", "labels", "order")
    if key in JUDGE and not JUDGE_IS_TRAINED
]


# What overlap depends on beside the files of `overlap_inputs`.
OVERLAP_KEYS = [
    f"labels.overlap.{key}"
    for key in ["kind", "minimum_match", "tolerance"]
    + ["infinigram.index"] * (config["labels"]["overlap"]["kind"] == "infinigram")
]


rule train_judge:
    input:
        pairs=JUDGE.get("pairs", []),
        model=f"results/{{run}}/models/{BASE_MODEL}",
        embedder=f"results/{{run}}/models/{EMBEDDER}",
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
        settings=stage("train_judge", "model.dtype", "labels.quality.judge"),
    message:
        "Training the judge on {input.pairs}"
    script:
        "../scripts/train_judge.py"


rule embed_candidates:
    input:
        prompts="results/{run}/prompts.parquet",
        candidates="results/{run}/candidates.parquet",
        model=f"results/{{run}}/models/{BASE_MODEL}",
        embedder=f"results/{{run}}/models/{EMBEDDER}",
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
        settings=stage("embed_candidates"),
    message:
        "Embedding answers and prompts"
    script:
        "../scripts/embed_candidates.py"


rule label_quality:
    input:
        **judge_inputs(""),
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
        gpu=JUDGE_GPUS,
        mem_mb=growing(6000, *[] if JUDGE_IS_TRAINED else ["judge_model"]),
        runtime=growing(120),
    params:
        settings=stage(
            "label_quality",
            "run.seed",
            "labels.quality.shards",
            "labels.quality.tournament",
            "labels.quality.tolerance",
            *JUDGE_KEYS,
        ),
    message:
        "Judging answers in a tournament for each prompt and seed, shard {wildcards.shard}"
    script:
        "../scripts/label_quality.py"


rule gather_quality:
    input:
        labels=expand(
            "results/{{run}}/labels/quality/shard={shard}.parquet", shard=JUDGE_SHARDS
        ),
        reports=expand(
            "results/{{run}}/labels/quality/shard={shard}.json", shard=JUDGE_SHARDS
        ),
    output:
        labels="results/{run}/labels/quality.parquet",
        report="results/{run}/labels/quality_report.json",
    log:
        "logs/{run}/gather_quality.log",
    benchmark:
        "benchmarks/{run}/gather_quality.tsv"
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
        settings=stage("label_diversity"),
    message:
        "Measuring the diversity of answers across seeds"
    script:
        "../scripts/label_diversity.py"


# Files of the user's own verifiers.
OWN_VERIFIERS = [own["path"] for own in config["labels"]["correctness"]["verifiers"]]


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
        settings=stage("label_correctness", "labels.correctness"),
        verifiers=[file_sha256(path) for path in OWN_VERIFIERS],
    message:
        "Verifying answers"
    script:
        "../scripts/label_correctness.py"


rule index_corpus:
    input:
        corpus=config["labels"]["overlap"]["corpus"],
        model=f"results/{{run}}/models/{BASE_MODEL}",
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
        settings=stage("index_corpus"),
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
        settings=stage("label_overlap", *OVERLAP_KEYS),
    message:
        "Tracing answers to the corpus"
    script:
        "../scripts/label_overlap.py"
