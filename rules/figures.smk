# Figures (PDF for a paper, PNG for the report) and tables. Only the probe needs a model.

from adaptive_samplers.figures.declaration import Plot, Shown

# Each figure of a run, once: its rule and the targets that request it are derived from this list.
PLOTS = [
    Plot(
        name="tradeoff",
        inputs={"comparison": results("evaluation/comparison.parquet"), **BEHIND_PLAN},
        stage="plot_tradeoff",
        figures={
            "tradeoff": Shown("Quality against diversity", "Comparison", "tradeoff")
        },
        message="Plotting quality against diversity",
    ),
    Plot(
        name="ranking",
        inputs={"comparison": results("evaluation/comparison.parquet"), **BEHIND_PLAN},
        figures={"ranking": Shown("Ranking by quality", "Comparison", "ranking")},
        message="Plotting the ranking of heuristics and learned samplers",
    ),
    Plot(
        name="distributions",
        inputs={"probes": results("figures/data/distributions.json"), **BEHIND_PLAN},
        figures={
            "distributions": Shown(
                "Raw, target and learned distributions", "Training", "distributions"
            )
        },
        message="Plotting raw, target and learned distributions",
    ),
    Plot(
        name="training_curves",
        drawn_by="curves",
        inputs={
            "samplers": expand(
                results("samplers/{sampler}"), sampler=SAMPLERS, allow_missing=True
            )
        },
        figures={"training_curves": Shown("Training curves", "Training", "curves")},
        message="Plotting training curves",
    ),
    Plot(
        name="kept_heuristics",
        drawn_by="selection",
        inputs={
            "heuristics": results("heuristics.parquet"),
            "training_sets": expand(
                results("training_sets/{training_set}.parquet"),
                training_set=TRAINING_SETS,
                allow_missing=True,
            ),
        },
        figures={
            "kept_heuristics": Shown("Heuristics kept per weight", "Training", "kept")
        },
        message="Plotting which heuristics' answers were kept",
    ),
    Plot(
        name="labels",
        inputs={
            "summary": results("label_summary/summary.json"),
            "correlations": results("tables/label_correlations.csv"),
            **BEHIND_PLAN,
        },
        figures={
            "label_distributions": Shown(
                "Distributions of the labels", "Labels", "label_distributions"
            ),
            "label_correlations": Shown(
                "Correlations between labels", "Labels", "label_correlations"
            ),
        },
        message="Plotting the labels' distributions and correlations",
    ),
    Plot(
        name="learnability",
        inputs={"learned": LEARNED_HEURISTICS},
        figures={"learnability": None},
        message="Plotting which architecture learns which heuristic",
        group="learnability",
    ),
    Plot(
        name="portraits",
        inputs={"portraits": PORTRAITS},
        figures={
            "portraits": None,
            "effective_temperature": None,
            "closed_form": None,
            "statistics": None,
        },
        message="Plotting what the learned samplers are",
        group="portraits",
    ),
    Plot(
        name="repeated_sampling",
        inputs={
            "measured": results("evaluation/repeated_sampling.parquet"),
            "power_laws": results("evaluation/power_laws.parquet"),
            **BEHIND_PLAN,
        },
        figures={
            "coverage": Shown(
                "Coverage by the number of samples", "Repeated sampling", "coverage"
            ),
            "selecting": Shown(
                "Selecting among samples", "Repeated sampling", "selecting"
            ),
        },
        message="Plotting coverage and selecting among samples",
        group="repeated_sampling",
    ),
    Plot(
        name="protocol",
        inputs={
            "plan": results("protocol/plan.json"),
            "curves": results("protocol/curves.csv"),
            "pairs": results("protocol/pairs.csv"),
            "temperatures": results("protocol/temperatures.csv"),
            "points": results("protocol/points.csv"),
        },
        figures={
            "tries": Shown("Best of equally many tries", "Protocol", "tries"),
            "differences": Shown(
                "Learned samplers against other families", "Protocol", "differences"
            ),
            "temperatures": Shown(
                "Families at each temperature", "Protocol", "temperatures"
            ),
            "family_fronts": Shown(
                "What families reach together", "Protocol", "family_fronts"
            ),
        },
        message="Plotting families of samplers after equal numbers of tries",
        group="protocol",
    ),
    Plot(
        name="off_policy",
        inputs={
            "estimates": results("off_policy/estimates.csv"),
            "calibration": results("off_policy/calibration.csv"),
        },
        figures={"off_policy_surface": None, "off_policy_calibration": None},
        message="Plotting what samplers are estimated to be worth",
        group="off_policy",
    ),
]
TABLE_FILES = {
    "run": [
        "tables/comparison.csv",
        "tables/comparison.tex",
        "tables/comparison.html",
        "tables/judge.html",
        "tables/completeness.html",
        "tables/selection.html",
        "tables/labels.html",
        "tables/label_distributions.csv",
        "tables/label_correlations.csv",
        "tables/label_correlations.tex",
    ],
    "learnability": ["tables/learnability.csv", "tables/learnability.tex"],
    "portraits": [
        "tables/portraits.csv",
        "tables/portraits.tex",
        "tables/effective_temperature.csv",
        "tables/closed_form.csv",
        "tables/closed_form.txt",
        "tables/statistics.csv",
    ],
    "repeated_sampling": [
        "tables/repeated_sampling.csv",
        "tables/repeated_sampling.tex",
        "tables/repeated_sampling.html",
        "tables/power_laws.csv",
    ],
    "protocol": [
        "protocol/families.csv",
        "protocol/pairs.csv",
        "protocol/curves.csv",
        "protocol/temperatures.csv",
        "protocol/fronts.csv",
        "protocol/points.csv",
        "protocol/summary.json",
        "tables/protocol.html",
        "tables/protocol.tex",
    ],
    "off_policy": [],
}
FIGURE_FILES = {
    group: [file for plot in PLOTS if plot.group == group for file in plot.files]
    for group in TABLE_FILES
}
# A figure with its own target may also be part of every run.
ENABLED = {
    "repeated_sampling": CONFIG.evaluation.repeated_sampling.enabled,
    "protocol": CONFIG.evaluation.protocol.enabled,
}
GROUPS = ["run", *(group for group, enabled in ENABLED.items() if enabled)]
FIGURES, TABLES = (
    [f"results/{RUN}/{file}" for group in GROUPS for file in files[group]]
    for files in (FIGURE_FILES, TABLE_FILES)
)

for plot in PLOTS:

    rule:
        name:
            f"plot_{plot.name}"
        input:
            **plot.inputs,
        output:
            expand(results("figures/{name}.pdf"), name=plot.figures, allow_missing=True),
            [
                (
                    report(
                        results(f"figures/{name}.png"),
                        caption=f"../report/{shown.caption}.rst",
                        category=shown.category,
                        labels={"figure": shown.label},
                    )
                    if shown
                    else results(f"figures/{name}.png")
                )
                for name, shown in plot.figures.items()
            ],
        log:
            logs(f"plot_{plot.name}"),
        benchmark:
            benchmarks(f"plot_{plot.name}")
        # Takes seconds: on a cluster it runs where Snakemake runs.
        localrule: True
        conda:
            "../envs/analysis.yaml"
        threads: 1
        resources:
            mem_mb=growing(2000),
            runtime=growing(10),
        params:
            **stage(plot.stage),
            drawn_by=plot.drawn_by,
        message:
            plot.message
        script:
            "../scripts/plot.py"


rule probe_distributions:
    input:
        prompts=results("prompts.parquet"),
        training_set=results(f"training_sets/{TRAINING_SETS[0]}.parquet"),
        samplers=expand(
            results("samplers/{architecture}/{lesson}"),
            architecture=ARCHITECTURES,
            lesson=lesson_names(CONFIG)[0],
            allow_missing=True,
        ),
        competing=competing_samplers,
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
    output:
        results("figures/data/distributions.json"),
    log:
        logs("probe_distributions"),
    benchmark:
        benchmarks("probe_distributions")
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


rule tabulate_comparison:
    input:
        **BEHIND_PLAN,
        comparison=results("evaluation/comparison.parquet"),
    output:
        csv=results("tables/comparison.csv"),
        tex=results("tables/comparison.tex"),
        html=report(
            results("tables/comparison.html"),
            caption="../report/comparison.rst",
            category="Comparison",
            labels={"figure": "Comparison table"},
        ),
    log:
        logs("tabulate_comparison"),
    benchmark:
        benchmarks("tabulate_comparison")
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
        judges=expand(
            f"results/{RUN}/judge/{{judge}}/report.json", judge=TRAINED_JUDGES
        ),
        tournaments=results("labels/quality_report.json"),
        labels=results("label_summary/summary.json"),
        candidates=results("candidates_report.json"),
        evaluation=results("evaluation/candidates_report.json"),
    output:
        judge=report(
            results("tables/judge.html"),
            caption="../report/judge.rst",
            category="Checks",
            labels={"figure": "The judge: what is known of it"},
        ),
        completeness=report(
            results("tables/completeness.html"),
            caption="../report/completeness.rst",
            category="Checks",
            labels={"figure": "Completeness of the candidates"},
        ),
    log:
        logs("tabulate_checks"),
    benchmark:
        benchmarks("tabulate_checks")
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("tables"),
        trained=TRAINED_JUDGES,
    message:
        "Writing what is known of the judge and of the candidates"
    script:
        "../scripts/tabulate_checks.py"
