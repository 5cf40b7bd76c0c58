"""Set the paper of a run by Typst, and record what it was made of."""

from pathlib import Path

from adaptive_samplers.paper.write import Sources, write_paper
from adaptive_samplers.stage import run_stage, settings_of


def main(snakemake):
    outline, files = snakemake.params.outline, snakemake.input
    given = {name: files[f"table_{name}"] for name in outline["tables"]}
    sources = Sources(
        outline=outline,
        tables={name: [Path(path) for path in ([of] if isinstance(of, str) else of)] for name, of in given.items()},
        drawings=[Path(path) for path in files.drawings],
        made_of=[Path(path) for path in files.made_of],
        columns=settings_of(snakemake).report.columns,
    )
    write_paper(sources, Path(snakemake.output.pdf), Path(snakemake.output.manifest))


run_stage(main, snakemake)
