# Candidates: every prompt under every heuristic and seed, one shard of prompts per job; then a check that none is lost.

# What training and validation answers drew, recorded as they are generated: what replays read first.
GENERATION_DRAWS = results("generation_draws/seed={seed}/shard={shard}.safetensors")
RECORDED_SEEDS = SEEDS if records_draws(CONFIG.generation) else []
DRAWN_IN_GENERATION = expand(
    GENERATION_DRAWS, seed=RECORDED_SEEDS, shard=SHARDS, allow_missing=True
)


rule generate_candidates:
    input:
        prompts=results("prompts.parquet"),
        heuristics=results("heuristics.parquet"),
        competing=competing_samplers,
        others=answers_of_generation_before,
        draws_before=generated_draws_of_generation_before,
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
    output:
        # Kept when they are made again: what the change does not affect is reused.
        **({"draws": update(GENERATION_DRAWS)} if RECORDED_SEEDS else {}),
        candidates=update(results("candidates/seed={seed}/shard={shard}.parquet")),
    log:
        logs("generate_candidates/seed={seed}/shard={shard}"),
    benchmark:
        benchmarks("generate_candidates/seed={seed}/shard={shard}")
    # So that the judge's training is left for when answers are embedded, which keeps one core busy.
    priority: 1
    conda:
        GENERATION_ENVIRONMENT
    threads: 1
    resources:
        gpu=GENERATION_GPUS,
        mem_mb=growing(6000, "model"),
        runtime=growing(120),
    params:
        **stage("generate_candidates"),
    message:
        "Generating answers: seed {wildcards.seed}, shard {wildcards.shard}"
    script:
        "../scripts/generate_candidates.py"


rule verify_candidates:
    input:
        prompts=results("prompts.parquet"),
        heuristics=results("heuristics.parquet"),
        shards=expand(
            results("candidates/seed={seed}/shard={shard}.parquet"),
            seed=SEEDS,
            shard=SHARDS,
            allow_missing=True,
        ),
    output:
        candidates=results("candidates.parquet"),
        report=results("candidates_report.json"),
    log:
        logs("verify_candidates"),
    benchmark:
        benchmarks("verify_candidates")
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        **stage("verify_candidates"),
    message:
        "Checking that every prompt was answered under every heuristic and seed"
    script:
        "../scripts/verify_candidates.py"
