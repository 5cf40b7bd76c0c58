# Learned samplers against every heuristic, on prompts that neither training nor early stopping saw.


rule sample_with_sampler:
    message:
        "Answering the test prompts with {wildcards.architecture}, {wildcards.weights}, top {wildcards.top_k}"
    input:
        prompts="results/{run}/prompts.parquet",
        sampler="results/{run}/samplers/{architecture}/{weights}_top{top_k}",
        model=f"results/{{run}}/models/{BASE_MODEL}",
    output:
        "results/{run}/evaluation/samplers/{architecture}/{weights}_top{top_k}.parquet",
    log:
        "logs/{run}/sample_with_sampler/{architecture}/{weights}_top{top_k}.log",
    benchmark:
        "benchmarks/{run}/sample_with_sampler/{architecture}/{weights}_top{top_k}.tsv"
    conda:
        "../envs/language_model.yaml"
    params:
        settings=stage(
            "generate_candidates",
            "run.seed",
            "seeds",
            "model.dtype",
            "generation.engine",
            "generation.max_new_tokens",
            "generation.stop",
        ),
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing(6000),
        runtime=growing(120),
    script:
        "../scripts/sample_with_sampler.py"


rule gather_evaluation:
    message:
        "Gathering the test answers of heuristics and learned samplers"
    input:
        prompts="results/{run}/prompts.parquet",
        heuristics="results/{run}/heuristics.parquet",
        candidates="results/{run}/candidates.parquet",
        sampled=expand("results/{{run}}/evaluation/samplers/{sampler}.parquet", sampler=SAMPLERS),
    output:
        candidates="results/{run}/evaluation/candidates.parquet",
        heuristics="results/{run}/evaluation/heuristics.parquet",
        report="results/{run}/evaluation/candidates_report.json",
    log:
        "logs/{run}/gather_evaluation.log",
    benchmark:
        "benchmarks/{run}/gather_evaluation.tsv"
    conda:
        "../envs/language_model.yaml"
    params:
        samplers=SAMPLERS,
        settings=stage("verify_candidates", "seeds", "generation.tolerance"),
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    script:
        "../scripts/gather_evaluation.py"


use rule embed_candidates as embed_evaluation with:
    message:
        "Embedding test answers"
    input:
        prompts="results/{run}/prompts.parquet",
        candidates="results/{run}/evaluation/candidates.parquet",
        model=f"results/{{run}}/models/{BASE_MODEL}",
        embedder=f"results/{{run}}/models/{EMBEDDER}",
    output:
        "results/{run}/evaluation/embeddings.parquet",
    log:
        "logs/{run}/embed_evaluation.log",
    benchmark:
        "benchmarks/{run}/embed_evaluation.tsv"


use rule label_quality as label_evaluation_quality with:
    message:
        "Judging test answers of heuristics and learned samplers together"
    input:
        prompts="results/{run}/prompts.parquet",
        candidates="results/{run}/evaluation/candidates.parquet",
        embeddings="results/{run}/evaluation/embeddings.parquet",
        model=f"results/{{run}}/models/{BASE_MODEL}",
        judge="results/{run}/judge/judge.json",
    output:
        labels="results/{run}/evaluation/labels/quality.parquet",
        report="results/{run}/evaluation/labels/quality_report.json",
    log:
        "logs/{run}/label_evaluation_quality.log",
    benchmark:
        "benchmarks/{run}/label_evaluation_quality.tsv"


use rule label_diversity as label_evaluation_diversity with:
    message:
        "Measuring the diversity of test answers across seeds"
    input:
        candidates="results/{run}/evaluation/candidates.parquet",
        embeddings="results/{run}/evaluation/embeddings.parquet",
    output:
        labels="results/{run}/evaluation/labels/diversity.parquet",
    log:
        "logs/{run}/label_evaluation_diversity.log",
    benchmark:
        "benchmarks/{run}/label_evaluation_diversity.tsv"


use rule label_correctness as label_evaluation_correctness with:
    message:
        "Verifying test answers"
    input:
        prompts="results/{run}/prompts.parquet",
        candidates="results/{run}/evaluation/candidates.parquet",
    output:
        labels="results/{run}/evaluation/labels/correctness.parquet",
    log:
        "logs/{run}/label_evaluation_correctness.log",
    benchmark:
        "benchmarks/{run}/label_evaluation_correctness.tsv"


use rule label_overlap as label_evaluation_overlap with:
    message:
        "Tracing test answers to the corpus"
    input:
        candidates="results/{run}/evaluation/candidates.parquet",
        index="results/{run}/corpus_index",
    output:
        labels="results/{run}/evaluation/labels/overlap.parquet",
    log:
        "logs/{run}/label_evaluation_overlap.log",
    benchmark:
        "benchmarks/{run}/label_evaluation_overlap.tsv"


rule compare_samplers:
    message:
        "Comparing learned samplers with every heuristic"
    input:
        heuristics="results/{run}/evaluation/heuristics.parquet",
        quality="results/{run}/evaluation/labels/quality.parquet",
        diversity="results/{run}/evaluation/labels/diversity.parquet",
        correctness="results/{run}/evaluation/labels/correctness.parquet",
    output:
        comparison="results/{run}/evaluation/comparison.parquet",
        differences="results/{run}/evaluation/differences.csv",
    log:
        "logs/{run}/compare_samplers.log",
    benchmark:
        "benchmarks/{run}/compare_samplers.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        settings=stage("compare_samplers", "run.seed", "evaluation"),
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    script:
        "../scripts/compare_samplers.py"
