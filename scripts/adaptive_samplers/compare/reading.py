"""Results from where they are: a file, a run of this project, sample logs of lm-evaluation-harness."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adaptive_samplers.compare.results import Results, results_of_table
from adaptive_samplers.compare.runs import HEURISTICS, results_of_run
from adaptive_samplers.errors import UserError
from adaptive_samplers.reading import read_objects

# Arguments of lm-evaluation-harness that say how long an answer is and what ends it, not how it is drawn.
_NOT_SAMPLING = {"until", "max_gen_toks", "max_new_tokens", "max_tokens", "max_length", "do_sample", "seed"}


def read_results(path: Path, lower_is_better: Sequence[str] = (), metric: str | None = None) -> Results:
    """The results in a file: CSV, TSV, JSON lines or Parquet; or in a folder: a run's, or lm-evaluation-harness's logs.

    Parameters
    ----------
    lower_is_better : objectives whose values are turned around.
    metric : str, optional
        Of lm-evaluation-harness, where its logs have several.

    Raises
    ------
    UserError
        Naming the file and the column, configuration or prompt, with what to do.
    """
    if (path / HEURISTICS).is_file():
        return results_of_run(path)
    if path.is_dir():
        return results_of_table(pd.DataFrame(_lm_eval_rows(path, metric)), str(path), lower_is_better)
    readers = {".csv": pd.read_csv, ".tsv": lambda file: pd.read_csv(file, sep="\t"), ".parquet": pd.read_parquet}
    readers |= dict.fromkeys((".jsonl", ".ndjson"), lambda file: pd.read_json(file, lines=True, dtype=False))
    if path.suffix not in readers:
        known = ", ".join(sorted(readers))
        raise UserError(f"{path}: is neither a folder nor a file that ends in {known}; give it such an ending")
    try:
        table = readers[path.suffix](path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; correct its name") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); correct it") from error
    return results_of_table(table, str(path), lower_is_better)


def _lm_eval_rows(folder: Path, metric: str | None) -> Iterator[dict[str, Any]]:
    """Rows of the sample logs below a folder: a file is a task under one way of drawing, at one time.

    Logs of the same task, model and arguments are answers under further seeds, in the order of their times.
    """
    files = sorted(folder.rglob("samples_*.jsonl"), key=lambda path: (path.stem.rpartition("_")[2], str(path)))
    if not files:
        raise UserError(f"{folder}: has no files samples_*.jsonl; run lm-evaluation-harness with --log_samples")
    seen: dict[tuple[str, str, str], int] = {}
    for path in files:
        task = path.stem.partition("_")[2].rpartition("_")[0]
        model = str(path.parent.relative_to(folder))
        seeds: dict[tuple[str, str, str], int] = {}
        for row in read_objects(path, "the folder"):
            sample = row.values
            try:
                family, configuration = _drawn_by(sample["arguments"])
                metrics = sample.get("metrics") or [key for key in sample if _is_metric(sample[key], key)]
                prompt = sample.get("doc_hash") or str(sample["doc_id"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise row.complain(f"is no sample of lm-evaluation-harness ({error})", "leave it out") from error
            chosen = metric or (metrics[0] if len(metrics) == 1 else None)
            if chosen is None or chosen not in sample:
                wrong = f"has no metric '{chosen}'" if chosen else "has several metrics" if metrics else "has no metric"
                raise row.complain(wrong, f"choose one of {', '.join(metrics)} by --metric")
            configuration = configuration if model == "." else f"{model} {configuration}"
            key = task, family, configuration
            # The same configuration in an earlier file: answers under another seed.
            seed = seeds.setdefault(key, seen.get(key, 0))
            filtered = sample.get("filter", "none")
            yield {
                "objective": task if filtered == "none" else f"{task} ({filtered})",
                "family": family,
                "configuration": configuration,
                "prompt": prompt,
                "seed": seed,
                "value": float(sample[chosen]),
            }
        for key, seed in seeds.items():
            seen[key] = seed + 1


def _is_metric(value: Any, key: str) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and key != "doc_id"


def _drawn_by(arguments: Mapping[str, Any]) -> tuple[str, str]:
    """The family and the configuration of a request: what its arguments say of drawing.

    The family has the names of all arguments but the temperature; without any it is `temperature`, or `greedy`.
    """
    first = next(iter(arguments.values())) if isinstance(arguments, Mapping) else arguments[0]
    options = first.get("arg_1") if isinstance(first, Mapping) else first[1]
    options = options if isinstance(options, Mapping) else {}
    drawing = {key: value for key, value in sorted(options.items()) if key not in _NOT_SAMPLING}
    if not options.get("do_sample", bool(drawing.get("temperature"))) or drawing.get("temperature") == 0:
        return "greedy", "greedy"
    family = " + ".join(key for key in drawing if key != "temperature") or "temperature"
    return family, re.sub(r'[{}"]', "", json.dumps(drawing)) or "temperature: 1.0"
