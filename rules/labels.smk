# Labels: one rule and one table each, side by side, never in a chain.


rule train_judge:
    input:
        pairs=config["labels"]["quality"]["judge"]["pairs"],
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
        gpu=1,
        mem_mb=growing(6000),
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
        gpu=1,
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
        prompts="results/{run}/prompts.parquet",
        candidates="results/{run}/candidates.parquet",
        embeddings="results/{run}/embeddings.parquet",
        model=f"results/{{run}}/models/{BASE_MODEL}",
        judge="results/{run}/judge/judge.json",
    output:
        labels="results/{run}/labels/quality.parquet",
        report="results/{run}/labels/quality_report.json",
    log:
        "logs/{run}/label_quality.log",
    benchmark:
        "benchmarks/{run}/label_quality.tsv"
    conda:
        "../envs/labels.yaml"
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=growing(120),
    params:
        settings=stage(
            "label_quality",
            "run.seed",
            "labels.quality.tournament",
            "labels.quality.tolerance",
        ),
    message:
        "Judging answers in a tournament for each prompt and seed"
    script:
        "../scripts/label_quality.py"


rule label_diversity:
    input:
        candidates="results/{run}/candidates.parquet",
        embeddings="results/{run}/embeddings.parquet",
    output:
        labels="results/{run}/labels/diversity.parquet",
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


rule label_correctness:
    input:
        prompts="results/{run}/prompts.parquet",
        candidates="results/{run}/candidates.parquet",
    output:
        labels="results/{run}/labels/correctness.parquet",
    log:
        "logs/{run}/label_correctness.log",
    benchmark:
        "benchmarks/{run}/label_correctness.tsv"
    conda:
        "../envs/labels.yaml"
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=growing(60),
    params:
        settings=stage("label_correctness", "labels.correctness"),
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
        candidates="results/{run}/candidates.parquet",
        index="results/{run}/corpus_index",
    output:
        labels="results/{run}/labels/overlap.parquet",
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
        settings=stage("label_overlap", "labels.overlap.minimum_match"),
    message:
        "Tracing answers to the corpus"
    script:
        "../scripts/label_overlap.py"
