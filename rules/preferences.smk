# Preference data: pairs and labels of single answers, for external trainers.


PREFERENCE_TABLES = [
    f"results/{RUN}/preferences/{name}.parquet" for name in ("pairs", "answers")
]
PREFERENCE_FORMATS = exported_files(
    CONFIG.preferences.formats, CONFIG.preferences.splits
)
PREFERENCE_FILES = [f"results/{RUN}/preferences/{name}" for name in PREFERENCE_FORMATS]
# The judges that gave the scores, and the models of those that run here rather than behind an endpoint.
SCORING_JUDGES = (
    JUDGES if CONFIG.labels.quality.combine == "mean" else {judge_name(JUDGE): JUDGE}
)
SCORING_MODELS = {
    name: EMBEDDER if JUDGE_KINDS[judge.kind].is_trained else name
    for name, judge in SCORING_JUDGES.items()
    if {"embeddings", "judge_model"} & {*JUDGE_KINDS[judge.kind].inputs}
}


rule make_preferences:
    input:
        prompts=results("prompts.parquet"),
        heuristics=results("heuristics.parquet"),
        candidates=results("candidates.parquet"),
        quality=results("labels/quality.parquet"),
        correctness=results("labels/correctness.parquet"),
        evaluations=CONFIG.preferences.decontamination.files,
    output:
        pairs=results("preferences/pairs.parquet"),
        answers=results("preferences/answers.parquet"),
        dropped=results("preferences/dropped.jsonl"),
        report=results("preferences/report.json"),
    log:
        logs("make_preferences"),
    benchmark:
        benchmarks("make_preferences")
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        **stage("make_preferences"),
    message:
        "Pairing and labelling answers"
    script:
        "../scripts/make_preferences.py"


rule export_preferences:
    input:
        pairs=results("preferences/pairs.parquet"),
        answers=results("preferences/answers.parquet"),
    output:
        results("preferences/{preference_file}"),
    log:
        logs("export_preferences/{preference_file}"),
    benchmark:
        benchmarks("export_preferences/{preference_file}")
    wildcard_constraints:
        preference_file="|".join(map(re.escape, PREFERENCE_FORMATS)),
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        **stage("export_preferences"),
        format=lambda wildcards: PREFERENCE_FORMATS[wildcards.preference_file].format,
        split=lambda wildcards: PREFERENCE_FORMATS[wildcards.preference_file].split,
    message:
        "Writing {wildcards.preference_file}"
    script:
        "../scripts/export_preferences.py"


rule describe_preferences:
    input:
        prompts=results("prompts.parquet"),
        heuristics=results("heuristics.parquet"),
        shards=expand(
            results("candidates/seed={seed}/shard={shard}.parquet"),
            seed=SEEDS,
            shard=SHARDS,
            allow_missing=True,
        ),
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
        judges=expand(f"{MODELS_FOLDER}/{{model}}", model=SCORING_MODELS.values()),
        report=results("preferences/report.json"),
        files=[*PREFERENCE_FILES, *PREFERENCE_TABLES],
    output:
        results("preferences/README.md"),
    log:
        logs("describe_preferences"),
    benchmark:
        benchmarks("describe_preferences")
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("describe_preferences"),
        judges=[
            judge.model_dump(include={"kind", "name", "pairs", "model"})
            for judge in SCORING_JUDGES.values()
        ],
        judges_with_models=list(SCORING_MODELS),
    message:
        "Writing the card of the preference data"
    script:
        "../scripts/describe_preferences.py"
