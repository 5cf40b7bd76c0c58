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
    "results/{{run}}/{budget_round}_round/candidates_report.json",
    budget_round=BUDGET_ROUNDS,
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
        prompts="results/{run}/prompts.parquet",
        heuristics="results/{run}/heuristics.parquet",
        shards=expand(
            "results/{{run}}/candidates/seed={seed}/shard={shard}.parquet",
            seed=FIRST_SEEDS,
            shard=SHARDS,
        ),
    output:
        candidates="results/{run}/first_round/candidates.parquet",
        report="results/{run}/first_round/candidates_report.json",
    log:
        "logs/{run}/verify_first_round.log",
    benchmark:
        "benchmarks/{run}/verify_first_round.tsv"
    params:
        **stage("verify_candidates", config | {"seeds": FIRST_SEEDS}),
    message:
        "Checking that every prompt was answered under every heuristic and first seed"


use rule embed_candidates as embed_budget_round with:
    input:
        prompts="results/{run}/prompts.parquet",
        candidates="results/{run}/{budget_round}_round/candidates.parquet",
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
        embedder=f"{MODELS_FOLDER}/{EMBEDDER}",
    output:
        "results/{run}/{budget_round}_round/embeddings.parquet",
    log:
        "logs/{run}/embed_budget_round/{budget_round}.log",
    benchmark:
        "benchmarks/{run}/embed_budget_round/{budget_round}.tsv"
    message:
        "Embedding answers of the {wildcards.budget_round} round and prompts"


use rule label_quality as label_budget_quality with:
    input:
        **judge_inputs(JUDGE, "{budget_round}_round/"),
        prompts="results/{run}/prompts.parquet",
        candidates="results/{run}/{budget_round}_round/candidates.parquet",
    output:
        labels="results/{run}/{budget_round}_round/labels/quality/shard={shard}.parquet",
        report="results/{run}/{budget_round}_round/labels/quality/shard={shard}.json",
    log:
        "logs/{run}/label_budget_quality/{budget_round}/shard={shard}.log",
    benchmark:
        "benchmarks/{run}/label_budget_quality/{budget_round}/shard={shard}.tsv"
    message:
        "Judging answers of the {wildcards.budget_round} round, shard {wildcards.shard}"


use rule label_correctness as label_budget_correctness with:
    input:
        prompts="results/{run}/prompts.parquet",
        candidates="results/{run}/{budget_round}_round/candidates.parquet",
        verifiers=OWN_VERIFIERS,
    output:
        labels="results/{run}/{budget_round}_round/labels/correctness.parquet",
    log:
        "logs/{run}/label_budget_correctness/{budget_round}.log",
    benchmark:
        "benchmarks/{run}/label_budget_correctness/{budget_round}.tsv"
    message:
        "Verifying answers of the {wildcards.budget_round} round"


use rule label_diversity as label_first_diversity with:
    input:
        candidates="results/{run}/first_round/candidates.parquet",
        embeddings="results/{run}/first_round/embeddings.parquet",
    output:
        labels="results/{run}/first_round/labels/diversity.parquet",
        report="results/{run}/first_round/labels/diversity_report.json",
    log:
        "logs/{run}/label_first_diversity.log",
    benchmark:
        "benchmarks/{run}/label_first_diversity.tsv"
    message:
        "Measuring the diversity of answers across the first seeds"


use rule gather_quality as gather_first_quality with:
    input:
        labels=expand(
            "results/{{run}}/first_round/labels/quality/shard={shard}.parquet",
            shard=JUDGE_SHARDS,
        ),
        reports=expand(
            "results/{{run}}/first_round/labels/quality/shard={shard}.json",
            shard=JUDGE_SHARDS,
        ),
    output:
        labels="results/{run}/first_round/labels/quality.parquet",
        report="results/{run}/first_round/labels/quality_report.json",
    log:
        "logs/{run}/gather_first_quality.log",
    benchmark:
        "benchmarks/{run}/gather_first_quality.tsv"
    message:
        "Gathering the ratings of the first round"


use rule score_candidates as score_first_round with:
    input:
        prompts="results/{run}/prompts.parquet",
        quality="results/{run}/first_round/labels/quality.parquet",
        diversity="results/{run}/first_round/labels/diversity.parquet",
        correctness="results/{run}/first_round/labels/correctness.parquet",
    output:
        "results/{run}/first_round/scores.parquet",
    log:
        "logs/{run}/score_first_round.log",
    benchmark:
        "benchmarks/{run}/score_first_round.tsv"
    message:
        "Scoring answers of the first round"


rule allocate_budget:
    input:
        prompts="results/{run}/prompts.parquet",
        heuristics="results/{run}/heuristics.parquet",
        scores="results/{run}/first_round/scores.parquet",
        quality="results/{run}/first_round/labels/quality.parquet",
    output:
        allocation="results/{run}/allocation.parquet",
        report="results/{run}/allocation_report.json",
    log:
        "logs/{run}/allocate_budget.log",
    benchmark:
        "benchmarks/{run}/allocate_budget.tsv"
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
        prompts="results/{run}/prompts.parquet",
        heuristics="results/{run}/heuristics.parquet",
        allocation="results/{run}/allocation.parquet",
        competing=competing_samplers,
        others=answers_of_round_before,
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
    log:
        "logs/{run}/generate_allocated/seed={seed}/shard={shard}.log",
    benchmark:
        "benchmarks/{run}/generate_allocated/seed={seed}/shard={shard}.tsv"
    wildcard_constraints:
        seed="|".join(map(str, LATER_SEEDS)),
    message:
        "Generating the allocated answers: seed {wildcards.seed}, shard {wildcards.shard}"


use rule verify_candidates as verify_allocated with:
    input:
        prompts="results/{run}/prompts.parquet",
        heuristics="results/{run}/heuristics.parquet",
        allocation="results/{run}/allocation.parquet",
        shards=expand(
            "results/{{run}}/candidates/seed={seed}/shard={shard}.parquet",
            seed=LATER_SEEDS,
            shard=SHARDS,
        ),
    output:
        candidates="results/{run}/second_round/candidates.parquet",
        report="results/{run}/second_round/candidates_report.json",
    log:
        "logs/{run}/verify_allocated.log",
    benchmark:
        "benchmarks/{run}/verify_allocated.tsv"
    params:
        **stage("verify_candidates", config | {"seeds": LATER_SEEDS}),
    message:
        "Checking that every allocated answer is there"


rule join_candidates:
    input:
        tables=expand(
            "results/{{run}}/{budget_round}_round/candidates.parquet",
            budget_round=BUDGET_ROUNDS,
        ),
        rounds=ROUND_REPORTS,
    output:
        table="results/{run}/candidates.parquet",
        report="results/{run}/candidates_report.json",
    log:
        "logs/{run}/join_candidates.log",
    benchmark:
        "benchmarks/{run}/join_candidates.tsv"
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
            "results/{{run}}/{budget_round}_round/embeddings.parquet",
            budget_round=BUDGET_ROUNDS,
        ),
        rounds=ROUND_REPORTS,
    output:
        table="results/{run}/embeddings.parquet",
    log:
        "logs/{run}/join_embeddings.log",
    benchmark:
        "benchmarks/{run}/join_embeddings.tsv"
    params:
        table="embeddings",
    message:
        "Joining the embeddings of both rounds"


use rule join_candidates as join_correctness with:
    input:
        tables=expand(
            "results/{{run}}/{budget_round}_round/labels/correctness.parquet",
            budget_round=BUDGET_ROUNDS,
        ),
        rounds=ROUND_REPORTS,
    output:
        table="results/{run}/labels/correctness.parquet",
    log:
        "logs/{run}/join_correctness.log",
    benchmark:
        "benchmarks/{run}/join_correctness.tsv"
    params:
        table="correctness",
    message:
        "Joining the verdicts of both rounds"


use rule gather_quality as gather_both_rounds_quality with:
    input:
        labels=expand(
            "results/{{run}}/{budget_round}_round/labels/quality/shard={shard}.parquet",
            budget_round=BUDGET_ROUNDS,
            shard=JUDGE_SHARDS,
        ),
        reports=expand(
            "results/{{run}}/{budget_round}_round/labels/quality/shard={shard}.json",
            budget_round=BUDGET_ROUNDS,
            shard=JUDGE_SHARDS,
        ),
        rounds=ROUND_REPORTS,
    log:
        "logs/{run}/gather_both_rounds_quality.log",
    benchmark:
        "benchmarks/{run}/gather_both_rounds_quality.tsv"
    message:
        "Gathering the ratings of both rounds"
