# Preference data: pairs and labels of single answers, for training by others.


PREFERENCE_TABLES = [
    f"results/{RUN}/preferences/{name}.parquet" for name in ("pairs", "answers")
]
PREFERENCE_FILES = [
    f"results/{RUN}/preferences/{preference_file(name)}"
    for name in CONFIG.preferences.formats
]
# The judges whose scores these are, and the models of those that have one here: behind an endpoint it is elsewhere.
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
        prompts="results/{run}/prompts.parquet",
        heuristics="results/{run}/heuristics.parquet",
        candidates="results/{run}/candidates.parquet",
        quality="results/{run}/labels/quality.parquet",
        correctness="results/{run}/labels/correctness.parquet",
        evaluations=CONFIG.preferences.decontamination.files,
    output:
        pairs="results/{run}/preferences/pairs.parquet",
        answers="results/{run}/preferences/answers.parquet",
        dropped="results/{run}/preferences/dropped.jsonl",
        report="results/{run}/preferences/report.json",
    log:
        "logs/{run}/make_preferences.log",
    benchmark:
        "benchmarks/{run}/make_preferences.tsv"
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
        pairs="results/{run}/preferences/pairs.parquet",
        answers="results/{run}/preferences/answers.parquet",
    output:
        "results/{run}/preferences/{preference_file}",
    log:
        "logs/{run}/export_preferences/{preference_file}.log",
    benchmark:
        "benchmarks/{run}/export_preferences/{preference_file}.tsv"
    wildcard_constraints:
        preference_file="|".join(
            re.escape(Path(file).name) for file in PREFERENCE_FILES
        ),
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        **stage("export_preferences"),
    message:
        "Writing {wildcards.preference_file}"
    script:
        "../scripts/export_preferences.py"


rule describe_preferences:
    input:
        prompts="results/{run}/prompts.parquet",
        heuristics="results/{run}/heuristics.parquet",
        shards=expand(
            "results/{{run}}/candidates/seed={seed}/shard={shard}.parquet",
            seed=SEEDS,
            shard=SHARDS,
        ),
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
        judges=expand("results/{{run}}/models/{model}", model=SCORING_MODELS.values()),
        report="results/{run}/preferences/report.json",
        files=[*PREFERENCE_FILES, *PREFERENCE_TABLES],
    output:
        "results/{run}/preferences/README.md",
    log:
        "logs/{run}/describe_preferences.log",
    benchmark:
        "benchmarks/{run}/describe_preferences.tsv"
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
