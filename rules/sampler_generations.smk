# Rounds of learned samplers: round r is the whole run once more, with the samplers of round r - 1 among the heuristics.
# Its rules are those of the run; here is only what puts the rounds side by side.

SAMPLER_ROUND_FILES = [
    *expand(
        f"results/{RUN}/sampler_rounds/{{name}}.csv", name=["comparison", "differences"]
    ),
    *expand(
        "results/{round}/{file}",
        round=SAMPLER_ROUNDS[1:],
        file=FIGURE_FILES["run"] + TABLE_FILES["run"],
    ),
]


localrules:
    join_sampler_rounds,


rule join_sampler_rounds:
    input:
        comparison=expand(
            "results/{round}/evaluation/comparison.parquet", round=SAMPLER_ROUNDS
        ),
        differences=expand(
            "results/{round}/evaluation/differences.csv", round=SAMPLER_ROUNDS
        ),
    output:
        comparison=results("sampler_rounds/comparison.csv"),
        differences=results("sampler_rounds/differences.csv"),
    log:
        logs("join_sampler_rounds"),
    benchmark:
        benchmarks("join_sampler_rounds")
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    message:
        "Putting the comparisons of all rounds of samplers side by side"
    script:
        "../scripts/join_sampler_rounds.py"
