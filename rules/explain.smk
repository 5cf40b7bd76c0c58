# What samplers do to each token of an answer: the target `explain`, a page for each prompt of the config.

EXPLAINED_SAMPLERS = (
    [f"{architecture}/{lesson_names(CONFIG)[0]}" for architecture in ARCHITECTURES]
    if CONFIG.explain.samplers is None
    else CONFIG.explain.samplers
)
# What the sampler that draws the answers imitated, if it imitated anything.
IMITATED = (
    training_set_of(Path(EXPLAINED_SAMPLERS[0]).name) if EXPLAINED_SAMPLERS else None
)
EXPLANATIONS = expand(
    f"results/{RUN}/explain/{{number}}.{{ending}}",
    number=range(1, len(CONFIG.explain.prompts) + 1),
    ending=["html", "txt"],
)


rule explain_prompt:
    input:
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
        samplers=expand(
            results("samplers/{sampler}"),
            sampler=EXPLAINED_SAMPLERS,
            allow_missing=True,
        ),
        training_set=(results(f"training_sets/{IMITATED}.parquet") if IMITATED else []),
        # In chains, and among the heuristics whose draws are shown.
        configured=CONFIGURED_SAMPLERS + learned_folders(*CONFIG.explain.chains),
    output:
        html=results("explain/{number}.html"),
        text=results("explain/{number}.txt"),
    log:
        logs("explain/{number}"),
    benchmark:
        benchmarks("explain/{number}")
    wildcard_constraints:
        number=r"[1-9]\d*",
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=growing(6000, "model"),
        runtime=growing(30),
    params:
        **stage("explain_prompt"),
        prompt=lambda wildcards: CONFIG.explain.prompts[int(wildcards.number) - 1],
        model=BASE_MODEL,
    message:
        "Explaining the answer to prompt {wildcards.number}"
    script:
        "../scripts/explain_prompt.py"
