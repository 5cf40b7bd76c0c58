# Adaptive Samplers: learn how to sample from a language model.
#
#   snakemake --profile profiles/local      everything, on this machine
#   snakemake --profile slurm               everything, on a cluster
#   snakemake --profile ... figures         one target and what it needs
#
# Rules are in rules/, one file a stage, in the order data flows. docs/what_reruns.md says what a change reruns.

from snakemake.utils import min_version

min_version("9.27")


# The demo config, used if no other is given: a user's own config is layered over the schema's defaults, not over this.
# Jobs get the `--configfile` of the Snakemake that started them, and so the same config.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/judges.smk"
include: "rules/policy_sampling.smk"
include: "rules/models.smk"
include: "rules/prompts.smk"
include: "rules/generation.smk"
include: "rules/labels.smk"
include: "rules/selection.smk"


if ADAPTIVE_BUDGETS:

    include: "rules/budgets.smk"


include: "rules/training.smk"
include: "rules/evaluation.smk"
include: "rules/protocol.smk"
include: "rules/label_summary.smk"
include: "rules/off_policy.smk"
include: "rules/on_policy.smk"
include: "rules/learnability.smk"
include: "rules/portraits.smk"
include: "rules/repeated_sampling.smk"
include: "rules/explain.smk"
include: "rules/figures.smk"
include: "rules/report.smk"
include: "rules/paper.smk"
include: "rules/policies.smk"
include: "rules/preferences.smk"
include: "rules/sampler_generations.smk"


# Its checkpoint makes Snakemake look at every rule for each job that it starts.
if ITERATION.command:

    include: "rules/iteration.smk"


# The front page of the HTML report.
report: "report/workflow.rst"


# Seconds each, on one core: on a cluster they run where Snakemake runs rather than wait in the queue, and models are
# fetched where there is a network.
localrules:
    all,
    figures,
    tables,
    learnability,
    portraits,
    repeated_sampling,
    protocol,
    off_policy,
    on_policy,
    explain,
    report,
    paper,
    write_paper,
    policy_samples,
    slice_policy_prompts,
    iterations,
    sampler_generations,
    fetch_model,
    collect_prompts,
    expand_heuristics,
    declare_plan,
    gather_quality,
    gather_evaluation_quality,
    tabulate_labels,
    tabulate_comparison,
    tabulate_checks,
    tabulate_learnability,
    tabulate_portraits,
    tabulate_protocol,
    tabulate_repeated_sampling,
    record_provenance,
    write_report,
    preferences,
    make_preferences,
    export_preferences,
    describe_preferences,


# Rules with `priority: 1` are what most others wait for. Figures and tables, which nothing waits for, take the cores that
# are left over.


onstart:
    refuse_running_twice()


rule all:
    default_target: True
    input:
        FIGURES,
        TABLES,
        OVERLAP,
        # Intermediate files are requested too: a deleted one is made again, with everything that depends on it.
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
        expand(
            f"results/{RUN}/{{file}}",
            file=FIGURE_FILES["learnability"] + TABLE_FILES["learnability"],
        ),


rule portraits:
    input:
        expand(
            f"results/{RUN}/{{file}}",
            file=FIGURE_FILES["portraits"] + TABLE_FILES["portraits"],
        ),


rule repeated_sampling:
    input:
        expand(
            f"results/{RUN}/{{file}}",
            file=FIGURE_FILES["repeated_sampling"] + TABLE_FILES["repeated_sampling"],
        ),


rule protocol:
    input:
        expand(
            f"results/{RUN}/{{file}}",
            file=FIGURE_FILES["protocol"] + TABLE_FILES["protocol"],
        ),


rule off_policy:
    input:
        OFF_POLICY_FILES,
        expand(f"results/{RUN}/{{file}}", file=FIGURE_FILES["off_policy"]),


rule on_policy:
    input:
        ON_POLICY_FILES,


rule explain:
    input:
        EXPLANATIONS,


rule report:
    input:
        f"results/{RUN}/report.html",


rule paper:
    input:
        FIGURES,
        TABLES,
        # Requested too, so that a deleted one is drawn again.
        expand(
            f"results/{RUN}/paper/figures/{{name}}.pdf",
            name=[drawing.name for drawing in PAPER.made_drawings],
        ),
        f"results/{RUN}/paper/paper.pdf",
        f"results/{RUN}/paper/MANIFEST.json",


rule policy_samples:
    input:
        POLICY_SAMPLES,


rule iterations:
    input:
        iteration_summary,


rule sampler_generations:
    input:
        SAMPLER_GENERATION_FILES,


rule preferences:
    input:
        PREFERENCE_FILES,
        f"results/{RUN}/preferences/README.md",
