"""What is written from the config's model: tables in config/README.md and docs/what_reruns.md, and a JSON schema."""

import json
from collections.abc import Iterable, Sequence
from itertools import groupby

from adaptive_samplers.config.keys import Key, known_keys
from adaptive_samplers.config.model import Config
from adaptive_samplers.errors import UserError
from adaptive_samplers.heuristics import HEURISTICS

BEGIN = "<!-- keys: begin (written by scripts/document_config.py) -->"
END = "<!-- keys: end -->"


def with_key_table(text: str) -> str:
    """The text of config/README.md with its tables of keys and of heuristics regenerated."""
    families = f"The families of heuristics:\n\n{document_families()}"
    return _between_marks(text, f"{document_keys()}\n\n{families}", "config/README.md")


def with_stage_table(text: str) -> str:
    """The text of docs/what_reruns.md with its table of keys and stages regenerated."""
    return _between_marks(text, document_stages(), "docs/what_reruns.md")


def json_schema() -> str:
    """The JSON schema by which editors complete and check a config."""
    return json.dumps(Config.model_json_schema(), indent=1, ensure_ascii=False) + "\n"


def _between_marks(text: str, tables: str, name: str) -> str:
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise UserError(f"{name} lacks the lines '{BEGIN}' and '{END}' around its tables")
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def document_keys() -> str:
    """A Markdown table of every key: its type, its default, its meaning and the stages that depend on it."""
    rows = [["Key", "Allowed", "Default", "Meaning", "What runs again"], ["---"] * 5]
    rows += [[f"`{key.path}`", key.allowed, key.default, key.meaning, _stages(key)] for key in known_keys()]
    return _table(rows)


def document_stages() -> str:
    """A Markdown table of the keys, with one row for those on which the same stages depend."""
    rows = [["Keys", "What runs again"], ["---"] * 2]
    for stages, keys in groupby((key for key in known_keys() if not _has_keys(key)), _stages):
        rows.append([", ".join(_without_common_sections(key.path for key in keys)), stages])
    return _table(rows)


def _has_keys(key: Key) -> bool:
    return any(other.path.startswith((f"{key.path}.", f"{key.path}[].")) for other in known_keys())


def _without_common_sections(paths: Iterable[str]) -> list[str]:
    """Paths as they are read in a row: the sections that a path shares with the one before it are left out."""
    shown, before = [], ""
    for path in dict.fromkeys(paths):
        section = path.rpartition(".")[0]
        shown.append(f"`{path.rpartition('.')[2] if section == before else path}`")
        before = section
    return shown


def _stages(key: Key) -> str:
    """The stages that run again when a key changes; what lies below them follows."""
    stages = [f"`{stage}`" for stage in key.affects]
    stages += [f"`{stage}` (further jobs)" for stage in key.adds_jobs_of if stage not in key.affects]
    return ", ".join(stages) or "nothing"


def document_families() -> str:
    """A Markdown table of the families of heuristics: their parameters and what they do."""
    rows = [["Family", "Parameters", "What it does"], ["---"] * 3]
    for name, heuristic in HEURISTICS.items():
        parameters = "; ".join(f"`{key}`: {numbers}" for key, numbers in heuristic.parameters.items())
        rows.append([f"`{name}`", parameters or "none", heuristic.summary])
    return _table(rows)


def _table(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
