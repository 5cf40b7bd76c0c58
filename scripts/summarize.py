"""Print what a finished run found: `python scripts/summarize.py config/config.yaml`."""

import sys
from pathlib import Path

import yaml

from adaptive_samplers.evaluation import render_table
from adaptive_samplers.files import read_json
from adaptive_samplers.tables import read_table


def main(configfile: str) -> None:
    name = yaml.safe_load(Path(configfile).read_text())["run"]["name"]
    folder = Path("results") / name
    comparison = read_table("comparison", folder / "evaluation" / "comparison.parquet")
    print(render_table(comparison, list(dict.fromkeys(comparison["objective"]))))
    print("\nKL to the targets on test prompts, nats (of the raw logits behind it):")
    for path in sorted((folder / "samplers").glob("*/*/metrics.json")):
        metrics = read_json(path)
        sampler = f"{path.parent.parent.name} {path.parent.name.replace('_top', ' top')}"
        print(f"  {sampler:<58} {metrics['kl']:.4f}  ({metrics['identity_kl']:.4f})")
    print(f"\nReport   {folder / 'report.html'}\nFigures  {folder / 'figures'}\nTables   {folder / 'tables'}")


main(sys.argv[1])
