# Generations of learned samplers: each later one repeats the whole run with the samplers of the previous one among the
# heuristics. It uses the rules of the run; this file only compares the generations.

# Samplers that are trained in rounds, and the generations that judge those before them.
ROUNDS = [
    (place + 1, f"results/{RUN}/{generation}samplers/{sampler}")
    for place, generation in enumerate(SAMPLER_GENERATIONS)
    for sampler in SAMPLERS_IN_ROUNDS
    if generation
]
SAMPLER_GENERATION_FILES = [
    *expand(
        f"results/{RUN}/sampler_generations/{{name}}",
        name=["rounds.csv", "rounds.pdf", "rounds.png"] if ROUNDS else [],
    ),
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
    tabulate_rounds,
    plot_rounds,


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


rule tabulate_rounds:
    input:
        [folder for _, folder in ROUNDS],
    output:
        "results/{run}/sampler_generations/rounds.csv",
    log:
        "logs/{run}/tabulate_rounds.log",
    benchmark:
        "benchmarks/{run}/tabulate_rounds.tsv"
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        generations=[generation for generation, _ in ROUNDS],
    message:
        "Putting the verdicts of all rounds into one table"
    script:
        "../scripts/tabulate_rounds.py"


rule plot_rounds:
    input:
        rounds="results/{run}/sampler_generations/rounds.csv",
    output:
        expand(
            "results/{{run}}/sampler_generations/rounds.{format}",
            format=["pdf", "png"],
        ),
    log:
        "logs/{run}/plot_rounds.log",
    benchmark:
        "benchmarks/{run}/plot_rounds.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("figures"),
        drawn_by="rounds",
    message:
        "Plotting what each round gained"
    script:
        "../scripts/plot.py"
