# Figures (PDF for a paper, PNG for the report) and tables. None of these rules needs a model but the probe.

FIGURE_NAMES = [
    "tradeoff",
    "ranking",
    "distributions",
    "training_curves",
    "kept_heuristics",
    "label_distributions",
    "label_correlations",
]
TABLE_NAMES = [
    "comparison.csv",
    "comparison.tex",
    "comparison.html",
    "judge.html",
    "completeness.html",
    "selection.html",
    "labels.html",
    "label_distributions.csv",
    "label_correlations.csv",
    "label_correlations.tex",
]

FIGURES = expand(
    f"results/{RUN}/figures/{{name}}.{{format}}",
    name=FIGURE_NAMES,
    format=["pdf", "png"],
)
TABLES = expand(f"results/{RUN}/tables/{{name}}", name=TABLE_NAMES)


rule plot_tradeoff:
    input:
        "results/{run}/evaluation/comparison.parquet",
    output:
        pdf="results/{run}/figures/tradeoff.pdf",
        png=report(
            "results/{run}/figures/tradeoff.png",
            caption="../report/tradeoff.rst",
            category="Comparison",
            labels={"figure": "Quality against diversity"},
        ),
    log:
        "logs/{run}/plot_tradeoff.log",
    benchmark:
        "benchmarks/{run}/plot_tradeoff.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("plot_tradeoff"),
    message:
        "Plotting quality against diversity"
    script:
        "../scripts/plot_tradeoff.py"


rule plot_ranking:
    input:
        "results/{run}/evaluation/comparison.parquet",
    output:
        pdf="results/{run}/figures/ranking.pdf",
        png=report(
            "results/{run}/figures/ranking.png",
            caption="../report/ranking.rst",
            category="Comparison",
            labels={"figure": "Ranking by quality"},
        ),
    log:
        "logs/{run}/plot_ranking.log",
    benchmark:
        "benchmarks/{run}/plot_ranking.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("figures"),
    message:
        "Plotting the ranking of heuristics and learned samplers"
    script:
        "../scripts/plot_ranking.py"


rule probe_distributions:
    input:
        prompts="results/{run}/prompts.parquet",
        training_set=f"results/{{run}}/training_sets/{TRAINING_SETS[0]}.parquet",
        samplers=expand(
            "results/{{run}}/samplers/{architecture}/{training_set}",
            architecture=ARCHITECTURES,
            training_set=TRAINING_SETS[0],
        ),
        competing=competing_samplers,
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
    output:
        "results/{run}/figures/data/distributions.json",
    log:
        "logs/{run}/probe_distributions.log",
    benchmark:
        "benchmarks/{run}/probe_distributions.tsv"
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=growing(6000, "model"),
        runtime=growing(30),
    params:
        **stage("probe_distributions"),
    message:
        "Looking at distributions of test answers"
    script:
        "../scripts/probe_distributions.py"


rule plot_distributions:
    input:
        "results/{run}/figures/data/distributions.json",
    output:
        pdf="results/{run}/figures/distributions.pdf",
        png=report(
            "results/{run}/figures/distributions.png",
            caption="../report/distributions.rst",
            category="Training",
            labels={"figure": "Raw, target and learned distributions"},
        ),
    log:
        "logs/{run}/plot_distributions.log",
    benchmark:
        "benchmarks/{run}/plot_distributions.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("figures"),
    message:
        "Plotting raw, target and learned distributions"
    script:
        "../scripts/plot_distributions.py"


rule plot_training_curves:
    input:
        samplers=expand("results/{{run}}/samplers/{sampler}", sampler=SAMPLERS),
    output:
        pdf="results/{run}/figures/training_curves.pdf",
        png=report(
            "results/{run}/figures/training_curves.png",
            caption="../report/curves.rst",
            category="Training",
            labels={"figure": "Training curves"},
        ),
    log:
        "logs/{run}/plot_training_curves.log",
    benchmark:
        "benchmarks/{run}/plot_training_curves.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("figures"),
    message:
        "Plotting training curves"
    script:
        "../scripts/plot_training_curves.py"


rule plot_kept_heuristics:
    input:
        heuristics="results/{run}/heuristics.parquet",
        training_sets=expand(
            "results/{{run}}/training_sets/{training_set}.parquet",
            training_set=TRAINING_SETS,
        ),
    output:
        pdf="results/{run}/figures/kept_heuristics.pdf",
        png=report(
            "results/{run}/figures/kept_heuristics.png",
            caption="../report/kept.rst",
            category="Training",
            labels={"figure": "Heuristics kept per weight"},
        ),
    log:
        "logs/{run}/plot_kept_heuristics.log",
    benchmark:
        "benchmarks/{run}/plot_kept_heuristics.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("figures"),
    message:
        "Plotting which heuristics' answers were kept"
    script:
        "../scripts/plot_kept_heuristics.py"


rule tabulate_comparison:
    input:
        "results/{run}/evaluation/comparison.parquet",
    output:
        csv="results/{run}/tables/comparison.csv",
        tex="results/{run}/tables/comparison.tex",
        html=report(
            "results/{run}/tables/comparison.html",
            caption="../report/comparison.rst",
            category="Comparison",
            labels={"figure": "Comparison table"},
        ),
    log:
        "logs/{run}/tabulate_comparison.log",
    benchmark:
        "benchmarks/{run}/tabulate_comparison.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("tables"),
    message:
        "Writing the comparison for people and for a paper"
    script:
        "../scripts/tabulate_comparison.py"


rule tabulate_checks:
    input:
        judge=f"results/{RUN}/judge/report.json" if TRAINED_JUDGE else [],
        tournaments="results/{run}/labels/quality_report.json",
        candidates="results/{run}/candidates_report.json",
        evaluation="results/{run}/evaluation/candidates_report.json",
    output:
        judge=report(
            "results/{run}/tables/judge.html",
            caption="../report/judge.rst",
            category="Checks",
            labels={"figure": "The judge: what is known of it"},
        ),
        completeness=report(
            "results/{run}/tables/completeness.html",
            caption="../report/completeness.rst",
            category="Checks",
            labels={"figure": "Completeness of the candidates"},
        ),
    log:
        "logs/{run}/tabulate_checks.log",
    benchmark:
        "benchmarks/{run}/tabulate_checks.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("tables"),
    message:
        "Writing what is known of the judge and of the candidates"
    script:
        "../scripts/tabulate_checks.py"
