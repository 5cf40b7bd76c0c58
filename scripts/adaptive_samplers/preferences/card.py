"""The card of a preference data set: what the Hugging Face hub shows, and what a reader must know to trust it."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from adaptive_samplers.hashing import file_sha256
from adaptive_samplers.preferences.answers import REASONS
from adaptive_samplers.preferences.dataset import CONTAMINATED, NO_PAIR
from adaptive_samplers.preferences.formats import FORMATS, exported_files
from adaptive_samplers.preferences.settings import PreferenceSettings

TABLES = ("pairs.parquet", "answers.parquet")  # not named in the card: `datasets` reads one kind of file from a folder
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGEST = "1M<n<10M"
_CODE = re.compile(r"`[^`]+`")
_NOT_ON_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")  # line ends, and non-text


def dataset_card(
    title: str,
    license_id: str | None,
    report: Mapping[str, Any],
    settings: PreferenceSettings,
    prompts: pd.DataFrame,
    heuristics: pd.DataFrame,
    seeds: Sequence[int],
    models: Mapping[str, Mapping[str, Any]],
    judges: Sequence[Mapping[str, Any]],
    engines: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
    files: Sequence[Path],
) -> str:
    """The text of `README.md` next to the data: YAML that the hub reads, then Markdown.

    Parameters
    ----------
    report : of `make_preferences`.
    prompts : the `prompts` table.
    heuristics : the rows of the `heuristics` table that took part.
    models : what each model's `provenance.json` holds, by what the model was for.
    judges : for each judge whose scores are used, `kind` and, if present, `name`, `pairs` and `model`.
    engines : for each engine that answered, `engine` and `versions`, null if they were not recorded.
    provenance : versions and commit of the code that made the data.
    files : the data, in the card's folder.
    """
    parts = [
        f"# {title}: preferences",
        f"{report['pairs']} preference pairs and {sum(report['labels'].values())} labels of single answers, made of "
        "answers that a language model gave under several sampling pipelines and seeds, and of a judge's scores. Every "
        "row can be traced: prompts and pipelines have ids that are hashes of their content.",
        *_load(files, settings),
        *_prompts(prompts, settings, report),
        *_sampling(heuristics, seeds, models, engines),
        *_judge(judges, report, settings),
        *_dropped(report),
        *_agreement(report["agreement"]),
        *_licenses(models, license_id),
        *_files(files),
        *_code(provenance),
    ]
    return f"---\n{_front_matter(title, license_id, report, files, settings)}---\n\n" + "\n\n".join(parts) + "\n"


def _front_matter(
    title: str, license_id: str | None, report: Mapping[str, Any], files: Sequence[Path], settings: PreferenceSettings
) -> str:
    data = _files_by_format(files, settings)
    rows = report["pairs"]
    front = {
        "pretty_name": f"{title}: preferences",
        **({"license": license_id} if license_id else {}),
        "tags": ["preferences", "dpo", "kto", "synthetic"],
        "size_categories": [next((name for most, name in _SIZES if rows < most), _LARGEST)],
        "configs": [{"config_name": name, "data_files": _data_files(found)} for name, found in data.items()],
    }
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True)


def _files_by_format(files: Sequence[Path], settings: PreferenceSettings) -> dict[str, dict[str, str | None]]:
    """For each exported format, its files, and the trainer's split that each holds, None for all rows."""
    names = {path.name for path in files}
    found: dict[str, dict[str, str | None]] = {}
    for file, (name, split) in exported_files(list(FORMATS), settings.splits).items():
        if file in names:
            found.setdefault(name, {})[file] = split
    return found


def _data_files(found: Mapping[str, str | None]) -> str | list[dict[str, str]]:
    splits = [{"split": split, "path": file} for file, split in found.items() if split is not None]
    return splits or next(iter(found))


def _load(files: Sequence[Path], settings: PreferenceSettings) -> list[str]:
    data = _files_by_format(files, settings)
    rows = [(f"`{file}`", FORMATS[name].reader, f"`{name}`") for name, found in data.items() for file in found]
    rows += [(f"`{path.name}`", "the table behind the other files", "") for path in files if path.name in TABLES]
    example = next(iter(data))
    return [
        "## Load",
        "```python\nfrom datasets import load_dataset\n\n"
        f'data = load_dataset("this folder", "{example}", split="train")\n'
        'table = load_dataset("parquet", data_files="pairs.parquet", split="train")\n```',
        _table(["file", "for", "name"], rows),
    ]


def _prompts(prompts: pd.DataFrame, settings: PreferenceSettings, report: Mapping[str, Any]) -> list[str]:
    exported = prompts[prompts["split"].isin(settings.splits)]
    rows = [(*key, len(group)) for key, group in exported.groupby(["dataset", "kind", "split"])]
    return [
        "## Prompts",
        f"Of the splits {', '.join(settings.splits)}; {report['prompts'][CONTAMINATED]} of them were left out because "
        "they share words with prompts of an evaluation.",
        _table(["source", "kind", "split", "prompts"], rows),
    ]


def _sampling(
    heuristics: pd.DataFrame, seeds: Sequence[int], models: Mapping[str, Mapping], engines: Sequence[Mapping]
) -> list[str]:
    rows = [(use, *_model(model)) for use, model in models.items()]
    answered = [(engine["engine"], _versions(engine["versions"])) for engine in engines]
    pipelines = [(f"`{row.name}`", row.heuristic_id, f"`{row.processors}`") for row in heuristics.itertuples()]
    return [
        "## Models and sampling",
        _table(["model", "name", "source", "hash of its files", "license"], rows),
        _table(["engine", "versions in the job that wrote the answers"], answered),
        f"Seeds: {', '.join(map(str, seeds))}. Each pipeline's steps in the order in which they change the logits:",
        _table(["pipeline", "id", "steps"], pipelines),
    ]


def _model(model: Mapping[str, Any]) -> tuple[str, ...]:
    source = ", ".join(f"{key} {value}" for key, value in model["source"].items() if key not in ("sha256", "path"))
    return model["name"], source, f"`{model['model_hash']}`", model["license"]


def _versions(versions: Mapping[str, str] | None) -> str:
    if versions is None:
        return "not recorded: the answers are older than the record"
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _judge(judges: Sequence[Mapping[str, Any]], report: Mapping[str, Any], settings: PreferenceSettings) -> list[str]:
    meaning = {
        "reward": "the judge's reward, which compares answers under all seeds",
        "rating": "Bradley-Terry ratings, which compare answers to the same prompt"
        + (" under the same seed" if settings.rated == "seed" else ""),
    }[report["score"]]
    chosen = vars(settings).items()
    return [
        "## Judge and pairing",
        *(f"A judge of the kind `{judge['kind']}`, {_judge_name(judge)}." for judge in judges),
        f"Scores are {meaning}." + (" They are means of the judges' standardized ratings." if len(judges) > 1 else ""),
        _table(["setting", "value"], [(name.replace("_", " "), f"`{json.dumps(value)}`") for name, value in chosen]),
        f"Mean characters of chosen answers: {report['mean_characters']['chosen']:.0f}, of rejected ones: "
        f"{report['mean_characters']['rejected']:.0f}.",
    ]


def _judge_name(judge: Mapping[str, Any]) -> str:
    if "pairs" in judge:
        return f"trained by the run on `{judge['pairs']}`, with the model above for its features"
    name = f"{judge['name']}, the model {judge['model']} behind an endpoint" if "model" in judge else judge.get("name")
    return plain(name or judge["kind"])


def _dropped(report: Mapping[str, Any]) -> list[str]:
    rows = [("answers", reason, report["answers"][name]) for name, reason in REASONS.items()]
    rows += [("groups of answers", reason, report["groups_without_pairs"][name]) for name, reason in NO_PAIR.items()]
    return [
        "## What was left out",
        f"{report['answers']['usable']} answers could be used. `answers.parquet` has every answer with the reason why "
        "it could not; `dropped.jsonl` has every prompt and group that gave no pair.",
        _table(["what", "why", "number"], rows),
    ]


def _agreement(found: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, what in (("exported", "these pairs"), ("every_split", "the same pairing on the prompts of every split")):
        one = found[name]
        share = (
            "none to verify" if one["share"] is None else f"{one['share']:.1%} ({one['low']:.1%} to {one['high']:.1%})"
        )
        rows.append((what, one["pairs"], one["verifiable"], one["agreeing"], share))
    if found["independent"]:
        meaning = (
            "Of pairs whose two answers a verifier scored differently, the share in which the chosen one is the more "
            "correct one, with Wilson's 95% interval. The verifier had no part in choosing the pairs."
        )
    else:
        meaning = (
            "The verifier had a part in choosing these pairs (`correctness`), so that its agreement with them says "
            "nothing of their quality."
        )
    return [
        "## Check against verifiers",
        meaning,
        _table(["pairs", "number", "verifiable", "agreeing", "share"], rows),
    ]


def _licenses(models: Mapping[str, Mapping[str, Any]], license_id: str | None) -> list[str]:
    own = f"The data: {plain(license_id)}. " if license_id else "Whoever publishes the data chooses its license. "
    named = "; ".join(plain(f"{model['name']}: {model['license']}") for model in models.values())
    return [
        "## Licenses",
        f"{own}It holds texts of the prompts' sources, under the licenses of these, and of the model. Models: {named}.",
    ]


def _files(files: Sequence[Path]) -> list[str]:
    return ["## Files", _table(["file", "SHA-256"], [(f"`{path.name}`", f"`{file_sha256(path)}`") for path in files])]


def _code(provenance: Mapping[str, Any]) -> list[str]:
    return [
        "## Made with",
        f"{_versions(provenance['versions'])}; commit {provenance['commit'] or 'unknown, not made in a git clone'}.",
    ]


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [heads, ["---"] * len(heads), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    """What a cell shows, on one line: code as it is, anything else as plain letters, never markup."""
    text = _CODE.fullmatch(str(value))
    return (_one_line(text[0]) if text else plain(str(value))).replace("|", "\\|")


def plain(text: str) -> str:
    """A text from outside, such as a source's name, as Markdown that shows it on one line and nothing else."""
    return html.escape(_one_line(text), quote=False)


def _one_line(text: str) -> str:
    return _NOT_ON_A_LINE.sub(" ", text)
