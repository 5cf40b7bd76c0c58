# Adaptive Samplers: learn how to sample from a language model.
#
#   snakemake --profile profiles/local      everything, on this machine
#   snakemake --profile slurm               everything, on a cluster
#   snakemake --profile ... figures         one target and what it needs
#
# Rules are in rules/, one file a stage, in the order data flows. docs/what_reruns.md tells what a change reruns.

from snakemake.utils import min_version

min_version("9.0")


configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/models.smk"
include: "rules/prompts.smk"
include: "rules/generation.smk"
include: "rules/labels.smk"
include: "rules/selection.smk"
include: "rules/training.smk"
include: "rules/evaluation.smk"
include: "rules/figures.smk"
include: "rules/learnability.smk"
include: "rules/report.smk"


# The front page of the HTML report.
report: "report/workflow.rst"


# Seconds each, on one core: on a cluster they run where Snakemake runs rather than wait in the queue, and models are
# fetched where there is a network.
localrules:
    all,
    figures,
    tables,
    learnability,
    report,
    fetch_model,
    collect_prompts,
    expand_heuristics,
    gather_quality,
    gather_evaluation_quality,
    plot_tradeoff,
    plot_ranking,
    plot_distributions,
    plot_training_curves,
    plot_kept_heuristics,
    plot_learnability,
    tabulate_comparison,
    tabulate_checks,
    tabulate_learnability,
    record_provenance,
    write_report,


onstart:
    refuse_running_twice()


rule all:
    default_target: True
    input:
        FIGURES,
        TABLES,
        OVERLAP,
        # Files on the way are asked for too: one that was deleted is made again, with what depends on it.
        INTERMEDIATE,
        f"results/{RUN}/evaluation/comparison.parquet",
        f"results/{RUN}/provenance.json",
        f"results/{RUN}/report.html",


rule figures:
    input:
        FIGURES,


rule tables:
    input:
        TABLES,


rule learnability:
    input:
        LEARNABILITY,


rule report:
    input:
        f"results/{RUN}/report.html",
