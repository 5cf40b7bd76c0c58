# What follows from recorded draws about samplers that drew none of them: the target `off_policy`. Draws are recorded by
# training.smk, and only where something asks for them.

OFF_POLICY_FILES = [
    f"results/{RUN}/off_policy/{name}"
    for name in ("estimates.csv", "calibration.csv", "report.json")
]


rule estimate_samplers:
    input:
        scores=results("scores.parquet"),
        heuristics=results("heuristics.parquet"),
        candidates=results("candidates.parquet"),
        draws=expand(
            results("draws/shard={shard}.safetensors"),
            shard=DRAW_SHARDS,
            allow_missing=True,
        ),
        samplers=expand(
            results("samplers/{sampler}"), sampler=SAMPLERS, allow_missing=True
        ),
        competing=competing_samplers,
    output:
        estimates=results("off_policy/estimates.csv"),
        calibration=results("off_policy/calibration.csv"),
        report=results("off_policy/report.json"),
    log:
        logs("estimate_samplers"),
    benchmark:
        benchmarks("estimate_samplers")
    conda:
        "../envs/language_model.yaml"
    threads: 2
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        **stage("estimate_samplers"),
    message:
        "Estimating what samplers are worth that drew none of the answers"
    script:
        "../scripts/estimate_samplers.py"
