# Budgets: the first seeds are labelled, and their labels decide which answers of the later seeds are made. Included
# where generation.adaptive is enabled; its rules then come before those that make the same files in one round.
#
# No checkpoint: which files there are follows from the config alone, a shard for each seed as ever, and the allocation
# is an input that says which rows they hold. So dry runs show the whole run, and a shard resumes as any other.

FIRST_SEEDS = SEEDS[: CONFIG.generation.adaptive.first_seeds]
LATER_SEEDS = SEEDS[len(FIRST_SEEDS) :]
BUDGET_ROUNDS = ["first", "second"]
# They say which prompts a round dropped.
ROUND_REPORTS = expand(
    results("{budget_round}_round/candidates_report.json"),
    budget_round=BUDGET_ROUNDS,
    allow_missing=True,
)


INTERMEDIATE += [
    f"results/{RUN}/allocation.parquet",
    f"results/{RUN}/first_round/scores.parquet",
    *expand(
        f"results/{RUN}/{{budget_round}}_round/candidates.parquet",
        budget_round=BUDGET_ROUNDS,
    ),
]


wildcard_constraints:
    budget_round="|".join(BUDGET_ROUNDS),


localrules:
    gather_first_quality,
    gather_both_rounds_quality,


ruleorder: generate_allocated > generate_candidates
ruleorder: join_candidates > verify_candidates
ruleorder: join_embeddings > embed_candidates
ruleorder: gather_both_rounds_quality > gather_quality
ruleorder: join_correctness > label_correctness


use rule verify_candidates as verify_first_round with:
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
        candidates=results("first_round/candidates.parquet"),
        report=results("first_round/candidates_report.json"),
    log:
        logs("verify_first_round"),
    benchmark:
        benchmarks("verify_first_round")
    params:
        **stage("verify_candidates", config | {"seeds": FIRST_SEEDS}),
    message:
        "Checking that every prompt was answered under every heuristic and first seed"


use rule embed_candidates as embed_budget_round with:
    input:
        prompts=results("prompts.parquet"),
        candidates=results("{budget_round}_round/candidates.parquet"),
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
        embedder=f"{MODELS_FOLDER}/{EMBEDDER}",
    output:
        results("{budget_round}_round/embeddings.parquet"),
    log:
        logs("embed_budget_round/{budget_round}"),
    benchmark:
        benchmarks("embed_budget_round/{budget_round}")
    message:
        "Embedding answers of the {wildcards.budget_round} round and prompts"


use rule label_quality as label_budget_quality with:
    input:
        **judge_inputs(JUDGE, "{budget_round}_round/"),
        prompts=results("prompts.parquet"),
        candidates=results("{budget_round}_round/candidates.parquet"),
    output:
        labels=results("{budget_round}_round/labels/quality/shard={shard}.parquet"),
        report=results("{budget_round}_round/labels/quality/shard={shard}.json"),
    log:
        logs("label_budget_quality/{budget_round}/shard={shard}"),
    benchmark:
        benchmarks("label_budget_quality/{budget_round}/shard={shard}")
    message:
        "Judging answers of the {wildcards.budget_round} round, shard {wildcards.shard}"


use rule label_correctness as label_budget_correctness with:
    input:
        prompts=results("prompts.parquet"),
        candidates=results("{budget_round}_round/candidates.parquet"),
        verifiers=OWN_VERIFIERS,
    output:
        labels=results("{budget_round}_round/labels/correctness.parquet"),
    log:
        logs("label_budget_correctness/{budget_round}"),
    benchmark:
        benchmarks("label_budget_correctness/{budget_round}")
    message:
        "Verifying answers of the {wildcards.budget_round} round"


use rule label_diversity as label_first_diversity with:
    input:
        candidates=results("first_round/candidates.parquet"),
        embeddings=results("first_round/embeddings.parquet"),
    output:
        labels=results("first_round/labels/diversity.parquet"),
        report=results("first_round/labels/diversity_report.json"),
    log:
        logs("label_first_diversity"),
    benchmark:
        benchmarks("label_first_diversity")
    message:
        "Measuring the diversity of answers across the first seeds"


use rule gather_quality as gather_first_quality with:
    input:
        labels=expand(
            results("first_round/labels/quality/shard={shard}.parquet"),
            shard=JUDGE_SHARDS,
            allow_missing=True,
        ),
        reports=expand(
            results("first_round/labels/quality/shard={shard}.json"),
            shard=JUDGE_SHARDS,
            allow_missing=True,
        ),
    output:
        labels=results("first_round/labels/quality.parquet"),
        report=results("first_round/labels/quality_report.json"),
    log:
        logs("gather_first_quality"),
    benchmark:
        benchmarks("gather_first_quality")
    message:
        "Gathering the ratings of the first round"


use rule score_candidates as score_first_round with:
    input:
        prompts=results("prompts.parquet"),
        quality=results("first_round/labels/quality.parquet"),
        diversity=results("first_round/labels/diversity.parquet"),
        correctness=results("first_round/labels/correctness.parquet"),
    output:
        results("first_round/scores.parquet"),
    log:
        logs("score_first_round"),
    benchmark:
        benchmarks("score_first_round")
    message:
        "Scoring answers of the first round"


rule allocate_budget:
    input:
        prompts=results("prompts.parquet"),
        heuristics=results("heuristics.parquet"),
        scores=results("first_round/scores.parquet"),
        quality=results("first_round/labels/quality.parquet"),
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


# Where a run without budgets, or with another one, has answers in the same files, they are taken over.
use rule generate_candidates as generate_allocated with:
    input:
        prompts=results("prompts.parquet"),
        heuristics=results("heuristics.parquet"),
        allocation=results("allocation.parquet"),
        competing=competing_samplers,
        others=answers_of_generation_before,
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
        candidates=results("second_round/candidates.parquet"),
        report=results("second_round/candidates_report.json"),
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
            results("{budget_round}_round/candidates.parquet"),
            budget_round=BUDGET_ROUNDS,
            allow_missing=True,
        ),
        rounds=ROUND_REPORTS,
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
        "Joining the answers of both rounds"
    script:
        "../scripts/join_rounds.py"


use rule join_candidates as join_embeddings with:
    input:
        tables=expand(
            results("{budget_round}_round/embeddings.parquet"),
            budget_round=BUDGET_ROUNDS,
            allow_missing=True,
        ),
        rounds=ROUND_REPORTS,
    output:
        table=results("embeddings.parquet"),
    log:
        logs("join_embeddings"),
    benchmark:
        benchmarks("join_embeddings")
    params:
        table="embeddings",
    message:
        "Joining the embeddings of both rounds"


use rule join_candidates as join_correctness with:
    input:
        tables=expand(
            results("{budget_round}_round/labels/correctness.parquet"),
            budget_round=BUDGET_ROUNDS,
            allow_missing=True,
        ),
        rounds=ROUND_REPORTS,
    output:
        table=results("labels/correctness.parquet"),
    log:
        logs("join_correctness"),
    benchmark:
        benchmarks("join_correctness")
    params:
        table="correctness",
    message:
        "Joining the verdicts of both rounds"


use rule gather_quality as gather_both_rounds_quality with:
    input:
        labels=expand(
            results("{budget_round}_round/labels/quality/shard={shard}.parquet"),
            budget_round=BUDGET_ROUNDS,
            shard=JUDGE_SHARDS,
            allow_missing=True,
        ),
        reports=expand(
            results("{budget_round}_round/labels/quality/shard={shard}.json"),
            budget_round=BUDGET_ROUNDS,
            shard=JUDGE_SHARDS,
            allow_missing=True,
        ),
        rounds=ROUND_REPORTS,
    log:
        logs("gather_both_rounds_quality"),
    benchmark:
        benchmarks("gather_both_rounds_quality")
    message:
        "Gathering the ratings of both rounds"
