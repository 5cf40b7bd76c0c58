# Which architecture can learn which heuristic: the target `learnability`. Its jobs read the existing sketches.

LEARNABLE = {
    pipeline_name(configured_pipeline(steps)): steps
    for steps in CONFIG.evaluation.learnability.heuristics
}
LEARNED_HEURISTICS = expand(
    results("learnability/{architecture}/{heuristic}.json"),
    architecture=ARCHITECTURES,
    heuristic=LEARNABLE,
    allow_missing=True,
)


rule learn_heuristic:
    input:
        training_sets=expand(
            results("training_sets/{training_set}.parquet"),
            training_set=TRAINING_SETS,
            allow_missing=True,
        ),
        sketches=expand(
            results("sketches/shard={shard}.safetensors"),
            shard=REPLAY_SHARDS,
            allow_missing=True,
        ),
    output:
        results("learnability/{architecture}/{heuristic}.json"),
    log:
        logs("learn_heuristic/{architecture}/{heuristic}"),
    benchmark:
        benchmarks("learn_heuristic/{architecture}/{heuristic}")
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        **stage("learn_heuristic", with_one_architecture),
        heuristic=lambda wildcards: LEARNABLE[wildcards.heuristic],
    message:
        "{wildcards.architecture} learns {wildcards.heuristic}"
    script:
        "../scripts/learn_heuristic.py"


rule tabulate_learnability:
    input:
        LEARNED_HEURISTICS,
    output:
        csv=results("tables/learnability.csv"),
        tex=results("tables/learnability.tex"),
    log:
        logs("tabulate_learnability"),
    benchmark:
        benchmarks("tabulate_learnability")
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("tables"),
    message:
        "Writing which architecture learns which heuristic"
    script:
        "../scripts/tabulate_learnability.py"
