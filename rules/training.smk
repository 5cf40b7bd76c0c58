# Sketches of the selected answers' distributions, and what all answers drew from theirs, once for all weights and
# architectures; then the samplers.


rule replay_distributions:
    input:
        training_sets=expand(
            results("training_sets/{training_set}.parquet"),
            training_set=TRAINING_SETS,
            allow_missing=True,
        ),
        generated=DRAWN_IN_GENERATION,
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
    output:
        # Kept when it is made again: answers already replayed are not read again.
        update(results("sketches/shard={shard}.safetensors")),
    log:
        logs("replay_distributions/shard={shard}"),
    benchmark:
        benchmarks("replay_distributions/shard={shard}")
    priority: 1
    conda:
        "../envs/language_model.yaml"
    threads: 2
    resources:
        gpu=GPUS,
        mem_mb=growing(8000, "model"),
        runtime=growing(120),
    params:
        **stage("replay_distributions"),
    message:
        "Replaying the selected answers, shard {wildcards.shard}"
    script:
        "../scripts/replay_distributions.py"


rule record_draws:
    input:
        prompts=results("prompts.parquet"),
        heuristics=results("heuristics.parquet"),
        candidates=results("candidates.parquet"),
        others=draws_of_generation_before,
        generated=DRAWN_IN_GENERATION,
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
    output:
        # Kept when it is made again: answers already recorded are not read again.
        update(results("draws/shard={shard}.safetensors")),
    log:
        logs("record_draws/shard={shard}"),
    benchmark:
        benchmarks("record_draws/shard={shard}")
    priority: 1
    conda:
        "../envs/language_model.yaml"
    threads: 2
    resources:
        gpu=GPUS,
        mem_mb=growing(8000, "model"),
        runtime=growing(120),
    params:
        **stage("record_draws"),
    message:
        "Recording what was drawn from which distributions, shard {wildcards.shard}"
    script:
        "../scripts/record_draws.py"


rule train_sampler:
    input:
        training_set=results("training_sets/{weights}_top{top_k}.parquet"),
        sketches=expand(
            results("sketches/shard={shard}.safetensors"),
            shard=REPLAY_SHARDS,
            allow_missing=True,
        ),
        competing=competing_samplers,
    output:
        directory(results("samplers/{architecture}/{weights}_top{top_k}{objective}")),
    log:
        logs("train_sampler/{architecture}/{weights}_top{top_k}{objective}"),
    benchmark:
        benchmarks("train_sampler/{architecture}/{weights}_top{top_k}{objective}")
    wildcard_constraints:
        objective=objectives_of(recorded=False),
    # The last architectures are the slowest, and begin first.
    priority: lambda wildcards: 1 + ARCHITECTURES.index(wildcards.architecture)
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        **stage("train_sampler", with_one_sampler),
    message:
        "Training {wildcards.architecture} on {wildcards.weights}, top {wildcards.top_k}"
    script:
        "../scripts/train_sampler.py"


rule train_on_outcomes:
    input:
        scores=results("scores.parquet"),
        heuristics=results("heuristics.parquet"),
        candidates=results("candidates.parquet"),
        embeddings=results("embeddings.parquet"),
        draws=expand(
            results("draws/shard={shard}.safetensors"),
            shard=DRAW_SHARDS,
            allow_missing=True,
        ),
        competing=competing_samplers,
        previous=sampler_to_go_on_from,
    output:
        directory(results("samplers/{architecture}/{weights}{objective}")),
    log:
        logs("train_on_outcomes/{architecture}/{weights}{objective}"),
    benchmark:
        benchmarks("train_on_outcomes/{architecture}/{weights}{objective}")
    wildcard_constraints:
        objective=objectives_of(recorded=True),
    priority: lambda wildcards: 1 + ARCHITECTURES.index(wildcards.architecture)
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        **stage("train_on_outcomes", with_one_sampler),
    message:
        "Training {wildcards.architecture} on outcomes: {wildcards.weights}{wildcards.objective}"
    script:
        "../scripts/train_on_outcomes.py"
