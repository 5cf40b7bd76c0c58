# What each learned sampler is, in terms that people know: the target `portraits`. Its jobs read the existing sketches.

PORTRAITS = expand(
    results("portraits/{sampler}.json"), sampler=SAMPLERS, allow_missing=True
)


rule portray_sampler:
    input:
        training_sets=expand(
            results("training_sets/{training_set}.parquet"),
            training_set=TRAINING_SETS,
            allow_missing=True,
        ),
        sketches=expand(
            results("sketches/shard={shard}.safetensors"),
            shard=REPLAY_SHARDS,
            allow_missing=True,
        ),
        sampler=results("samplers/{architecture}/{lesson}"),
    output:
        results("portraits/{architecture}/{lesson}.json"),
    log:
        logs("portray_sampler/{architecture}/{lesson}"),
    benchmark:
        benchmarks("portray_sampler/{architecture}/{lesson}")
    wildcard_constraints:
        lesson="[^/]+",
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        **stage("portray_sampler"),
    message:
        "Describing {wildcards.architecture}, {wildcards.lesson}"
    script:
        "../scripts/portray_sampler.py"


rule tabulate_portraits:
    input:
        PORTRAITS,
    output:
        portraits_csv=results("tables/portraits.csv"),
        portraits_tex=results("tables/portraits.tex"),
        effects_csv=results("tables/effective_temperature.csv"),
        closed_form_csv=results("tables/closed_form.csv"),
        closed_form_txt=results("tables/closed_form.txt"),
        statistics_csv=results("tables/statistics.csv"),
    log:
        logs("tabulate_portraits"),
    benchmark:
        benchmarks("tabulate_portraits")
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("tables"),
    message:
        "Writing what the learned samplers are"
    script:
        "../scripts/tabulate_portraits.py"
