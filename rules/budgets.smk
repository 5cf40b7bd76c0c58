# Budgets: the first seeds are labelled, and their labels decide which answers of the later seeds are made. Included
# if generation.adaptive is enabled; its rules then take precedence over those that make the same files in one phase.
#
# No checkpoint: the config alone determines the files, one shard per seed as usual, and the allocation is an input that
# says which rows they hold. So dry runs show the whole run, and a shard resumes like any other.

FIRST_SEEDS = SEEDS[: CONFIG.generation.adaptive.first_seeds]
LATER_SEEDS = SEEDS[len(FIRST_SEEDS) :]
BUDGET_PHASES = ["first", "second"]
# They say which prompts a phase dropped.
PHASE_REPORTS = expand(
    results("{budget_phase}_phase/candidates_report.json"),
    budget_phase=BUDGET_PHASES,
    allow_missing=True,
)


wildcard_constraints:
    budget_phase="|".join(BUDGET_PHASES),


localrules:
    gather_first_quality,
    gather_both_phases_quality,


ruleorder: generate_allocated > generate_candidates
ruleorder: join_candidates > verify_candidates
ruleorder: join_embeddings > embed_candidates
ruleorder: gather_both_phases_quality > gather_quality
ruleorder: join_correctness > label_correctness


use rule verify_candidates as verify_first_phase with:
    input:
        prompts=results("prompts.parquet"),
        heuristics=results("heuristics.parquet"),
        shards=expand(
            results("candidates/seed={seed}/shard={shard}.parquet"),
            seed=FIRST_SEEDS,
            shard=SHARDS,
            allow_missing=True,
        ),
    output:
        candidates=results("first_phase/candidates.parquet"),
        report=results("first_phase/candidates_report.json"),
    log:
        logs("verify_first_phase"),
    benchmark:
        benchmarks("verify_first_phase")
    params:
        **stage("verify_candidates", config | {"seeds": FIRST_SEEDS}),
    message:
        "Checking that every prompt was answered under every heuristic and first seed"


use rule embed_candidates as embed_budget_phase with:
    input:
        prompts=results("prompts.parquet"),
        candidates=results("{budget_phase}_phase/candidates.parquet"),
        embedder=f"{MODELS_FOLDER}/{EMBEDDER}",
    output:
        results("{budget_phase}_phase/embeddings.parquet"),
    log:
        logs("embed_budget_phase/{budget_phase}"),
    benchmark:
        benchmarks("embed_budget_phase/{budget_phase}")
    message:
        "Embedding answers of the {wildcards.budget_phase} phase and prompts"


use rule label_quality as label_budget_quality with:
    input:
        **judge_inputs(JUDGE, "{budget_phase}_phase/"),
        prompts=results("prompts.parquet"),
        candidates=results("{budget_phase}_phase/candidates.parquet"),
    output:
        labels=results("{budget_phase}_phase/labels/quality/shard={shard}.parquet"),
        report=results("{budget_phase}_phase/labels/quality/shard={shard}.json"),
    log:
        logs("label_budget_quality/{budget_phase}/shard={shard}"),
    benchmark:
        benchmarks("label_budget_quality/{budget_phase}/shard={shard}")
    message:
        "Judging answers of the {wildcards.budget_phase} phase, shard {wildcards.shard}"


use rule label_correctness as label_budget_correctness with:
    input:
        prompts=results("prompts.parquet"),
        candidates=results("{budget_phase}_phase/candidates.parquet"),
        verifiers=OWN_VERIFIERS,
    output:
        labels=results("{budget_phase}_phase/labels/correctness.parquet"),
    log:
        logs("label_budget_correctness/{budget_phase}"),
    benchmark:
        benchmarks("label_budget_correctness/{budget_phase}")
    message:
        "Verifying answers of the {wildcards.budget_phase} phase"


use rule label_diversity as label_first_diversity with:
    input:
        candidates=results("first_phase/candidates.parquet"),
        embeddings=results("first_phase/embeddings.parquet"),
    output:
        labels=results("first_phase/labels/diversity.parquet"),
        report=results("first_phase/labels/diversity_report.json"),
    log:
        logs("label_first_diversity"),
    benchmark:
        benchmarks("label_first_diversity")
    message:
        "Measuring the diversity of answers across the first seeds"


use rule gather_quality as gather_first_quality with:
    input:
        labels=expand(
            results("first_phase/labels/quality/shard={shard}.parquet"),
            shard=JUDGE_SHARDS,
            allow_missing=True,
        ),
        reports=expand(
            results("first_phase/labels/quality/shard={shard}.json"),
            shard=JUDGE_SHARDS,
            allow_missing=True,
        ),
    output:
        labels=results("first_phase/labels/quality.parquet"),
        report=results("first_phase/labels/quality_report.json"),
    log:
        logs("gather_first_quality"),
    benchmark:
        benchmarks("gather_first_quality")
    message:
        "Gathering the ratings of the first phase"


use rule score_candidates as score_first_phase with:
    input:
        prompts=results("prompts.parquet"),
        quality=results("first_phase/labels/quality.parquet"),
        diversity=results("first_phase/labels/diversity.parquet"),
        correctness=results("first_phase/labels/correctness.parquet"),
    output:
        results("first_phase/scores.parquet"),
    log:
        logs("score_first_phase"),
    benchmark:
        benchmarks("score_first_phase")
    message:
        "Scoring answers of the first phase"


rule allocate_budget:
    input:
        prompts=results("prompts.parquet"),
        heuristics=results("heuristics.parquet"),
        scores=results("first_phase/scores.parquet"),
        quality=results("first_phase/labels/quality.parquet"),
    output:
        allocation=results("allocation.parquet"),
        report=results("allocation_report.json"),
    log:
        logs("allocate_budget"),
    benchmark:
        benchmarks("allocate_budget")
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        **stage("allocate_budget"),
    message:
        "Allocating the rest of the budget to prompts and heuristics"
    script:
        "../scripts/allocate_budget.py"


# If a run without budgets, or with a different one, left answers in the same files, they are reused.
use rule generate_candidates as generate_allocated with:
    input:
        prompts=results("prompts.parquet"),
        heuristics=results("heuristics.parquet"),
        allocation=results("allocation.parquet"),
        competing=competing_samplers,
        others=answers_of_generation_before,
        draws_before=generated_draws_of_generation_before,
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
    log:
        logs("generate_allocated/seed={seed}/shard={shard}"),
    benchmark:
        benchmarks("generate_allocated/seed={seed}/shard={shard}")
    wildcard_constraints:
        seed="|".join(map(str, LATER_SEEDS)),
    message:
        "Generating the allocated answers: seed {wildcards.seed}, shard {wildcards.shard}"


use rule verify_candidates as verify_allocated with:
    input:
        prompts=results("prompts.parquet"),
        heuristics=results("heuristics.parquet"),
        allocation=results("allocation.parquet"),
        shards=expand(
            results("candidates/seed={seed}/shard={shard}.parquet"),
            seed=LATER_SEEDS,
            shard=SHARDS,
            allow_missing=True,
        ),
    output:
        candidates=results("second_phase/candidates.parquet"),
        report=results("second_phase/candidates_report.json"),
    log:
        logs("verify_allocated"),
    benchmark:
        benchmarks("verify_allocated")
    params:
        **stage("verify_candidates", config | {"seeds": LATER_SEEDS}),
    message:
        "Checking that every allocated answer is there"


rule join_candidates:
    input:
        tables=expand(
            results("{budget_phase}_phase/candidates.parquet"),
            budget_phase=BUDGET_PHASES,
            allow_missing=True,
        ),
        phases=PHASE_REPORTS,
    output:
        table=results("candidates.parquet"),
        report=results("candidates_report.json"),
    log:
        logs("join_candidates"),
    benchmark:
        benchmarks("join_candidates")
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        table="candidates",
    message:
        "Joining the answers of both phases"
    script:
        "../scripts/join_phases.py"


use rule join_candidates as join_embeddings with:
    input:
        tables=expand(
            results("{budget_phase}_phase/embeddings.parquet"),
            budget_phase=BUDGET_PHASES,
            allow_missing=True,
        ),
        phases=PHASE_REPORTS,
    output:
        table=results("embeddings.parquet"),
    log:
        logs("join_embeddings"),
    benchmark:
        benchmarks("join_embeddings")
    params:
        table="embeddings",
    message:
        "Joining the embeddings of both phases"


use rule join_candidates as join_correctness with:
    input:
        tables=expand(
            results("{budget_phase}_phase/labels/correctness.parquet"),
            budget_phase=BUDGET_PHASES,
            allow_missing=True,
        ),
        phases=PHASE_REPORTS,
    output:
        table=results("labels/correctness.parquet"),
    log:
        logs("join_correctness"),
    benchmark:
        benchmarks("join_correctness")
    params:
        table="correctness",
    message:
        "Joining the verdicts of both phases"


use rule gather_quality as gather_both_phases_quality with:
    input:
        labels=expand(
            results("{budget_phase}_phase/labels/quality/shard={shard}.parquet"),
            budget_phase=BUDGET_PHASES,
            shard=JUDGE_SHARDS,
            allow_missing=True,
        ),
        reports=expand(
            results("{budget_phase}_phase/labels/quality/shard={shard}.json"),
            budget_phase=BUDGET_PHASES,
            shard=JUDGE_SHARDS,
            allow_missing=True,
        ),
        phases=PHASE_REPORTS,
    log:
        logs("gather_both_phases_quality"),
    benchmark:
        benchmarks("gather_both_phases_quality")
    message:
        "Gathering the ratings of both phases"
