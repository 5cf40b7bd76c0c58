"""Print what a finished run found: `python scripts/summarize.py config/config.yaml`.

Several configs are layered in their order, as `snakemake --configfile` does it; without any, it is config/config.yaml.
"""

import sys
from pathlib import Path

import pandas as pd

from adaptive_samplers.compare.pages import verdict_sentences
from adaptive_samplers.config.layers import DEMO, read_layers
from adaptive_samplers.config.load import load_config
from adaptive_samplers.errors import UserError
from adaptive_samplers.files import read_json
from adaptive_samplers.rendering import render_table
from adaptive_samplers.tables import read_table

PAIRS = "protocol/pairs.csv"


def main(configs: list[str]) -> None:
    folder = Path("results") / load_config(read_layers(configs), Path.cwd())["run"]["name"]
    comparison = read_table("comparison", folder / "evaluation" / "comparison.parquet")
    print(render_table(comparison, list(dict.fromkeys(comparison["objective"]))))
    print("\nKL to the targets on test prompts, nats (of the raw logits behind it):")
    for path in sorted((folder / "samplers").glob("*/*/metrics.json")):
        metrics = read_json(path)
        sampler = f"{path.parent.parent.name} {path.parent.name.replace('_top', ' top')}"
        print(f"  {sampler:<58} {metrics['kl']:.4f}  ({metrics['identity_kl']:.4f})")
    if (folder / PAIRS).is_file():
        print("\nAfter equal tries:")
        for said in verdict_sentences(pd.read_csv(folder / PAIRS), read_json(folder / "protocol/summary.json")):
            print(f"  {said}")
    print(f"\nReport   {folder / 'report.html'}\nFigures  {folder / 'figures'}\nTables   {folder / 'tables'}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:] or [DEMO])
    except UserError as error:
        sys.exit(str(error))
