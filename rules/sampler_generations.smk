# Generations of learned samplers: each later one repeats the whole run with the samplers of the previous one among the
# heuristics. It uses the rules of the run; this file only compares the generations.

SAMPLER_GENERATION_FILES = [
    *expand(
        f"results/{RUN}/sampler_generations/{{name}}.csv",
        name=["comparison", "differences"],
    ),
    *expand(
        f"results/{RUN}/{{generation}}{{file}}",
        generation=SAMPLER_GENERATIONS[1:],
        file=FIGURE_FILES["run"] + TABLE_FILES["run"],
    ),
]


localrules:
    join_sampler_generations,


rule join_sampler_generations:
    input:
        comparison=expand(
            "results/{{run}}/{generation}evaluation/comparison.parquet",
            generation=SAMPLER_GENERATIONS,
        ),
        differences=expand(
            "results/{{run}}/{generation}evaluation/differences.csv",
            generation=SAMPLER_GENERATIONS,
        ),
    output:
        comparison="results/{run}/sampler_generations/comparison.csv",
        differences="results/{run}/sampler_generations/differences.csv",
    log:
        "logs/{run}/join_sampler_generations.log",
    benchmark:
        "benchmarks/{run}/join_sampler_generations.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    message:
        "Putting the comparisons of all generations of samplers side by side"
    script:
        "../scripts/join_sampler_generations.py"
