# Families of samplers compared after equal numbers of tries, by a plan that is declared before test answers are judged
# (docs/evaluation.md). It has its own target; if evaluation.protocol.enabled is true, it is part of every run.


rule declare_plan:
    input:
        prompts=results("prompts.parquet"),
        heuristics=results("heuristics.parquet"),
    output:
        results("protocol/plan.json"),
    log:
        logs("declare_plan"),
    benchmark:
        benchmarks("declare_plan")
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("declare_plan"),
        **EVALUATED_AT,
        learned=sampler_families(CONFIG),
        seeds=SEEDS,
        # Whatever the answers, their labels and the samplers depend on.
        planned=slice_of_stages(config, PLANNED_STAGES),
        run=lambda wildcards: f"{wildcards.run}/{wildcards.sampler_generation}".strip(
            "/"
        ),
        comparison=lambda wildcards: results("evaluation/comparison.parquet").format(
            **wildcards
        ),
    message:
        "Declaring what will be compared"
    script:
        "../scripts/declare_plan.py"


rule compare_families:
    input:
        plan=results("protocol/plan.json"),
        heuristics=results("evaluation/heuristics.parquet"),
        labels=expand(
            results("{judged}/labels/{table}.parquet"),
            judged=JUDGED_SPLITS,
            table=tables_of(CONFIG.evaluation.protocol.objectives),
            allow_missing=True,
        ),
    output:
        families=results("protocol/families.csv"),
        pairs=results("protocol/pairs.csv"),
        curves=results("protocol/curves.csv"),
        temperatures=results("protocol/temperatures.csv"),
        fronts=results("protocol/fronts.csv"),
        points=results("protocol/points.csv"),
        summary=results("protocol/summary.json"),
    log:
        logs("compare_families"),
    benchmark:
        benchmarks("compare_families")
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=growing(60),
    params:
        **stage("compare_families"),
        seed=CONFIG.run.seed,
    message:
        "Comparing families of samplers by the plan"
    script:
        "../scripts/compare_families.py"


rule tabulate_protocol:
    input:
        plan=results("protocol/plan.json"),
        families=results("protocol/families.csv"),
        pairs=results("protocol/pairs.csv"),
        summary=results("protocol/summary.json"),
    output:
        html=report(
            results("tables/protocol.html"),
            caption="../report/protocol.rst",
            category="Protocol",
            labels={"figure": "Families after equal tries"},
        ),
        tex=results("tables/protocol.tex"),
    log:
        logs("tabulate_protocol"),
    benchmark:
        benchmarks("tabulate_protocol")
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("tables"),
    message:
        "Writing what the planned comparison found"
    script:
        "../scripts/tabulate_protocol.py"
