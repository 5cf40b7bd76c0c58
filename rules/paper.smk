# The paper: a PDF that Typst makes from the text in report/paper, from tables and from figures drawn in its widths.

from pathlib import PurePath

from adaptive_samplers.figures.looks import PAPER as LOOKS
from adaptive_samplers.paper.declaration import (
    TEXT,
    Drawing,
    Paper,
    Section,
    Table,
    outline,
    widths,
)

# All that the paper may use, once. What a config does not make says so by `made`; sections that need it are left out.
# docs/paper.md
PAPER = Paper(
    tables=[
        Table("run", results("provenance.json")),
        Table(
            "prompts", results("prompts.parquet"), columns=("dataset", "kind", "split")
        ),
        Table("heuristics", results("heuristics.parquet"), columns=("name", "family")),
        Table("answers", results("candidates_report.json")),
        Table("comparison", results("tables/comparison.csv")),
        Table("differences", results("evaluation/differences.csv")),
        Table("fronts", results("evaluation/fronts.csv")),
        Table(
            "training",
            expand(results("samplers/{sampler}"), sampler=SAMPLERS, allow_missing=True),
            inside="metrics.json",
        ),
        Table("selection", results("selection/report.json")),
        Table(
            "judge",
            f"results/{RUN}/judge/{judge_name(JUDGE)}/report.json",
            made=judge_name(JUDGE) in TRAINED_JUDGES,
        ),
        # Those of families; the table of all samplers has its name already.
        Table(
            "family_hypervolumes",
            results("protocol/fronts.csv"),
            made=CONFIG.evaluation.protocol.enabled,
        ),
        Table("portraits", results("tables/portraits.csv")),
        Table("closed_form", results("tables/closed_form.csv")),
        Table("likelihood", results("tables/judge_likelihood.csv")),
        *(
            Table(
                PurePath(file).stem,
                results(f"protocol/{file}"),
                made=CONFIG.evaluation.protocol.enabled,
            )
            for file in ("plan.json", "summary.json", "pairs.csv")
        ),
    ],
    drawings=[
        Drawing("tradeoff", "page"),
        Drawing("ranking", "page"),
        Drawing("training_curves", "page"),
        Drawing("distributions", "page"),
        Drawing("kept_heuristics", "column"),
        Drawing("effective_temperature", "page"),
        *(
            Drawing(name, "page", made=CONFIG.evaluation.protocol.enabled)
            for name in ("tries", "temperatures", "family_fronts")
        ),
    ],
    sections=[
        Section("abstract", "Abstract"),
        Section("introduction", "Introduction", reports=False),
        Section("method", "Method", reports=False),
        Section("protocol", "Protocol", reports=False),
        Section("results", "Results", needs=("comparison", "differences")),
        Section(
            "equal_tries",
            "Families after equal tries",
            needs=("plan", "summary", "pairs", "family_hypervolumes"),
        ),
        Section(
            "portraits",
            "What the learned samplers are",
            needs=("portraits", "closed_form"),
        ),
        Section("limits", "Limits"),
    ],
)
# Those of the run's plots that draw something for it.
PAPER_PLOTS = [plot for plot in PLOTS if widths(PAPER, plot.figures)]

for plot in PAPER_PLOTS:

    rule:
        name:
            f"draw_{plot.name}_for_paper"
        input:
            **plot.inputs,
        output:
            expand(
                results("paper/figures/{name}.pdf"),
                name=widths(PAPER, plot.figures),
                allow_missing=True,
            ),
            made_of=results(f"paper/figures/{plot.name}.json"),
        log:
            logs(f"draw_{plot.name}_for_paper"),
        benchmark:
            benchmarks(f"draw_{plot.name}_for_paper")
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
            looks={
                name: list(LOOKS[CONFIG.report.columns][width])
                for name, width in widths(PAPER, plot.figures).items()
            },
        message:
            f"Drawing {plot.name} for the paper"
        script:
            "../scripts/draw_for_paper.py"


rule write_paper:
    input:
        **{f"table_{table.name}": table.files for table in PAPER.made_tables},
        text=sorted(str(path) for path in TEXT.rglob("*") if path.is_file()),
        drawings=[
            results(f"paper/figures/{drawing.name}.pdf")
            for drawing in PAPER.made_drawings
        ],
        made_of=[results(f"paper/figures/{plot.name}.json") for plot in PAPER_PLOTS],
    output:
        pdf=results("paper/paper.pdf"),
        manifest=results("paper/MANIFEST.json"),
    log:
        logs("write_paper"),
    benchmark:
        benchmarks("write_paper")
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("paper"),
        outline=outline(PAPER),
    message:
        "Setting the paper"
    script:
        "../scripts/write_paper.py"
