# Generations of learned samplers: each later one is the whole run once more, with the samplers of the one before it among
# the heuristics. Its rules are those of the run; here is only what puts the generations side by side.

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
